"""Calibrations of this machine: made of a run that was recorded, kept in the user's cache. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from planner.cards.shipped import plain
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_card import BAD_CALIBRATION
from planner.loading.cache import home
from planner.loading.written import written_text
from planner.plan.model import Plan
from planner.predict.calibration import (
    LARGE,
    Calibration,
    CalibrationError,
    MeasuredUse,
    from_json,
    to_json,
)
from planner.predict.forecast import Forecast, Interval, UseForecast
from planner.predict.profile import CallProfile
from planner.schedule.card import SIMULATED, Card

FOLDER = "calibrations"


def calibration_of(measured: Forecast, call: CallProfile, card: Card) -> Calibration:
    """What a recorded call says of its uses; seconds and link only where ``card`` is a real one: the virtual
    one keeps no time, nor has it libraries that keep memory.

    Seconds are the median of those uses during which no copy of the component's own weights ran, without the
    first of a process, in which kernels are loaded: an entry that runs once has none.
    """
    real = card.name != SIMULATED.name
    entries: dict[tuple[str, str], list[UseForecast]] = {}
    for use in measured.uses:
        entries.setdefault((use.component, use.entry), []).append(use)
    seconds = dict(_seconds(measured)) if real else {}
    uses = tuple(
        MeasuredUse(
            component=component,
            entry="" if entry == "forward" else entry,
            seconds=seconds.get((component, entry)),
            allocated=max(0, max(use.allocated for use in found) - (call.workspace if real else 0)) or None,
        )
        for (component, entry), found in sorted(entries.items())
    )
    return Calibration(
        pipeline=call.pipeline,
        card=named(card),
        arguments=call.arguments,
        versions=call.versions,
        uses=tuple(use for use in uses if use.seconds is not None or use.allocated is not None),
        link=_link(measured) if real else None,
    )


def named(card: Card) -> str:
    """By which a calibration knows its card."""
    if card.name == SIMULATED.name:
        return card.name
    return card.data.name if card.data is not None else card.kind or card.name


def path_of(plan: Plan, call: CallProfile, card: Card) -> Path:
    """Where the calibration of such a call lies: by the pipeline's class, its weights and rules for them, the
    shapes of its uses, and the card; not by how many steps it has."""
    whole = {
        "pipeline": call.pipeline,
        "weights": {n: [w.fixed, [*map(list, w.blocks)]] for n, w in call.weights.items()},
        "uses": sorted({(u.component, u.entry, u.inputs, u.output, u.signature) for u in call.uses}),
        "quantization": [
            [r.component, r.backend, r.match, *sorted(map(str, r.options.items()))] for r in plan.quantization
        ],
        "loras": len(plan.loras),
        "card": plain(named(card)),
    }
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
    return home() / FOLDER / f"{digest}.json"


def kept(plan: Plan, call: CallProfile, card: Card) -> tuple[Calibration | None, list[Diagnostic]]:
    """The calibration of such a call, None where there is none; a warning for one that cannot be read."""
    path = path_of(plan, call, card)
    try:
        return from_json(path.read_text(encoding="utf-8")), []
    except FileNotFoundError:
        return None, []
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, CalibrationError) else getattr(error, "strerror", None) or error
        said = f'the calibration "{path}" is not taken: {why}'
        return None, [finding(BAD_CALIBRATION, said, hint="plan apply --calibrate writes it anew")]


def keep(plan: Plan, call: CallProfile, card: Card, calibration: Calibration) -> Path:
    """Writes it, whole or not at all. Raises OSError."""
    path = path_of(plan, call, card)
    path.parent.mkdir(parents=True, exist_ok=True)
    written_text(path, to_json(calibration), replace=True)
    return path


def _seconds(measured: Forecast) -> Iterator[tuple[tuple[str, str], float]]:
    """By component and entry, where a component has one entry in a stage: intervals do not say which."""
    ran: dict[tuple[str, str], list[Interval]] = {}
    copies: dict[str, list[Interval]] = {}
    entries: dict[tuple[str, str], set[str]] = {}
    for use in measured.uses:
        entries.setdefault((use.stage, use.component), set()).add(use.entry)
    for interval in measured.intervals:
        if interval.lane == "copy":
            copies.setdefault(interval.component, []).append(interval)
        elif interval.lane == "compute":
            found = entries.get((interval.stage, interval.component), set())
            if len(found) == 1:
                ran.setdefault((interval.component, next(iter(found))), []).append(interval)
    for (component, entry), intervals in ran.items():
        own = copies.get(component, [])
        alone = [i for i in intervals[1:] if not any(c.start < i.end and i.start < c.end for c in own)]
        if alone and (took := median(i.end - i.start for i in alone)) > 0:
            yield (component, entry), took / 1e6


def _link(measured: Forecast) -> float | None:
    large = [i for i in measured.intervals if i.lane == "copy" and i.bytes >= LARGE and i.end > i.start]
    spent = sum(i.end - i.start for i in large)
    return sum(i.bytes for i in large) / spent * 1e6 if spent else None
