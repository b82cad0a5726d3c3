"""What a run measured of its uses, put in the place of what was predicted of them. No torch.

A factor for each use: on the seconds that a card's rates give its blocks, and on what it allocates. So a use
keeps its course, and plans that stream it or leave it less room are predicted from what was measured too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from planner.cards.data import CardData, Link
from planner.cards.rates import Table
from planner.predict.allocator import ROUND
from planner.predict.clock import BUSY, Clock
from planner.predict.pace import works
from planner.predict.profile import CallProfile, UseProfile

FORM = 1
LARGE = 256 << 20
"""Bytes of a copy by which a link is judged."""


class CalibrationError(ValueError):
    """Text that is no calibration of this form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUse:
    """A component's entry ("" for ``forward``). ``seconds``: of one use while all of its weights are there,
    the median; ``allocated``: bytes at its peak beside all weights and what libraries keep (a profile's
    ``workspace``); None where that was not measured."""

    component: str
    entry: str
    seconds: float | None = None
    allocated: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One call of ``pipeline`` on ``card``, "sim:0" for the virtual one, which keeps no time; ``link``: bytes
    a second to the device that large copies reached, None where that was not measured."""

    pipeline: str
    card: str
    arguments: Mapping[str, Any]
    versions: Mapping[str, str]
    uses: tuple[MeasuredUse, ...]
    link: float | None = None


def calibrated(
    call: CallProfile, card: CardData | None, calibration: Calibration
) -> tuple[CallProfile, CardData | None]:
    """``call`` and ``card`` (None where its rates are not known) with what was measured.

    Uses that were not measured stay as they are predicted. ``UseProfile.notes`` say what was.
    """
    spent = None if card is None else [_seconds(work, card) for work in works(call, card)]
    made = list(call.uses)
    for one in calibration.uses:
        numbers = [
            i for i, use in enumerate(call.uses) if (use.component, use.entry) == (one.component, one.entry)
        ]
        turns = [turn for turn in call.turns if turn.use in numbers]
        if not turns:
            continue
        held = max(turn.held for turn in turns)
        size = _factor(held, [call.uses[i] for i in numbers], one.allocated)
        pace = None
        if spent is not None and one.seconds is not None:
            predicted = median(spent[turn.use] for turn in turns)
            pace = one.seconds / predicted if predicted > 0 else None
        for i in numbers:
            made[i] = _as_measured(call.uses[i], size, pace)
    data = None if card is None else _linked(card, calibration.link)
    if made != [*call.uses] or data != card:
        call = replace(call, uses=tuple(made), calibration=digest_of(calibration))
    return call, data


def digest_of(calibration: Calibration) -> str:
    """``sha256:`` and the hash of its file."""
    return "sha256:" + hashlib.sha256(to_json(calibration).encode()).hexdigest()


def to_json(calibration: Calibration) -> str:
    """The same text for the same calibration."""
    said = {
        "form": FORM,
        "pipeline": calibration.pipeline,
        "card": calibration.card,
        "arguments": dict(calibration.arguments),
        "versions": dict(calibration.versions),
        "uses": [[u.component, u.entry, u.seconds, u.allocated] for u in calibration.uses],
        "link": calibration.link,
    }
    return json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def from_json(text: str) -> Calibration:
    """What ``to_json`` wrote. Raises CalibrationError for anything else."""
    try:
        said = json.loads(text)
        if said["form"] != FORM:
            raise CalibrationError(f"form {said['form']}, expected {FORM}")
        return Calibration(
            pipeline=str(said["pipeline"]),
            card=str(said["card"]),
            arguments=dict(said["arguments"]),
            versions=dict(said["versions"]),
            uses=tuple(
                MeasuredUse(
                    component=str(component),
                    entry=str(entry),
                    seconds=_positive(seconds),
                    allocated=None if allocated is None else int(_positive(allocated) or 0),
                )
                for component, entry, seconds, allocated in said["uses"]
            ),
            link=_positive(said["link"]),
        )
    except CalibrationError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"no calibration: {type(error).__name__}: {error}") from error


def _positive(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not 0 < (number := float(value)) < float("inf"):
        raise CalibrationError(f"{value!r} is no positive number")
    return number


def _seconds(work: Any, card: CardData) -> float:
    """Of one use whose weights are there."""
    clock = Clock(card)
    for stretch in work:
        clock.computes(stretch.seconds, stretch.operations)
    return clock.compute


def _factor(held: int, uses: list[UseProfile], allocated: int | None) -> float | None:
    """What was allocated, beside what the pipeline itself has there, to what was predicted."""
    if allocated is None:
        return None
    kept = max([held, *(use.inputs for use in uses)])
    peak = max(use.peak() for use in uses)
    return (allocated - kept) / peak if peak and allocated > kept else None


def _as_measured(use: UseProfile, size: float | None, pace: float | None) -> UseProfile:
    what = {"seconds": pace, "bytes": size}
    measured = frozenset(name for name, factor in what.items() if factor is not None)
    if not measured:
        return use
    made = replace(
        use,
        pace=use.pace * (1.0 if pace is None else pace),
        measured=use.measured | measured,
        notes=(*use.notes, f"{' and '.join(sorted(measured))} as measured"),
    )
    if size is None:
        return made
    events = tuple(_rounded(event * size) if event > 0 else event for event in use.events)
    return replace(made, events=events, room=int(use.room * size))


def _rounded(size: float) -> int:
    return max(1, -(-int(size) // ROUND)) * ROUND


def _linked(card: CardData, link: float | None) -> CardData:
    """With copies from pinned memory as quick as large ones were."""
    if link is None:
        return card
    factor = link / (card.to_device.pinned.at((LARGE,)) * BUSY)
    points = tuple((sizes, rate * factor) for sizes, rate in card.to_device.pinned.points)
    return replace(
        card,
        to_device=Link(pinned=Table(points), pageable=card.to_device.pageable),
        sources={**card.sources, "link.to_device.pinned": "measured"},
    )
