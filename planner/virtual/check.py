"""What was seen of a call, held against what was planned. Plain values, so that it can judge any planner.

The ledger's moves must be those of one of the planned ways, in order and byte for byte, and between two
moves nothing may run that the way does not have there. A call that departed from its walk is not held
to an order: its misses, faults, bytes and its budget still count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_virtual import DEPARTED, LEDGER_DEPARTS, PEAK_DIFFERS
from planner.virtual.audit import Audit
from planner.virtual.compare import Event, findings, merged, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way a call may go: its ``events``, the most bytes live at once (None when sizes are not known),
    and the components that ``stay`` on the device after it."""

    events: tuple[Event, ...]
    peak: int | None
    stay: frozenset[str]


def check(
    seen: Audit,
    ways: Iterable[Way],
    *,
    on_demand: Collection[str] = (),
    departures: Sequence[str] = (),
    loops: bool = False,
    budget: int | None = None,
) -> tuple[Diagnostic, ...]:
    """Everything that speaks against the call. ``seen`` must be finished.

    ``ways``: at least one; ``on_demand``: components that may come at any time, whose moves are not
    compared; ``departures``: how the call left its walk, if it did; ``loops``: groups of stages
    repeat, so a sequence of events may be seen again and again; ``budget``: bytes for weights.
    """
    events = _without(seen.events, on_demand)
    closest = max(ways, key=lambda way: _agreement(_without(way.events, on_demand), events, loops))
    peak = seen.peak_without(on_demand)
    found = list(findings(seen.verdict(stay=closest.stay)))
    if departures:
        found += [finding(DEPARTED, f"the call departed from the walk: {what}") for what in departures]
        if budget is not None and seen.peak > budget:
            found.append(
                finding(PEAK_DIFFERS, f"{seen.peak} bytes of weights at once, and the budget has {budget}")
            )
        return tuple(found)
    planned = _without(closest.events, on_demand)
    found += _moves(planned, events, loops)
    if closest.peak is not None and peak != closest.peak:
        found.append(finding(PEAK_DIFFERS, f"planned a peak of {closest.peak} bytes of weights, seen {peak}"))
    return tuple(found)


Move = tuple[Event, frozenset[str]]
"""A load or free, and who ran between it and the next one."""


def _moves(planned: tuple[Event, ...], seen: tuple[Event, ...], loops: bool) -> list[Diagnostic]:
    for number, (want, got) in enumerate(_pairs(planned, seen, loops), 1):
        if _agrees(want, got):
            continue
        if want and got and want[0] == got[0]:
            extra = ", ".join(f'"{name}"' for name in sorted(got[1] - want[1]))
            message = f"after move {number} ({text(got[0])}): {extra} ran, which was not planned there"
        else:
            message = f"move {number}: planned {text(want and want[0])}, seen {text(got and got[0])}"
        return [finding(LEDGER_DEPARTS, message)]
    return []


def _pairs(
    planned: tuple[Event, ...], seen: tuple[Event, ...], loops: bool
) -> Iterable[tuple[Move | None, Move | None]]:
    want, got = _grouped(planned), _grouped(seen)
    if loops:
        want, got = _folded(want), _folded(got)
    return zip_longest(want, got)


def _agrees(want: Move | None, got: Move | None) -> bool:
    return want is not None and got is not None and want[0] == got[0] and got[1] <= want[1]


def _agreement(planned: tuple[Event, ...], seen: tuple[Event, ...], loops: bool) -> tuple[int, int]:
    """How many moves agree from the start, and then how close the numbers of moves are."""
    pairs = list(_pairs(planned, seen, loops))
    first = next((i for i, (want, got) in enumerate(pairs) if not _agrees(want, got)), len(pairs))
    return first, -len(pairs)


def _without(events: Iterable[Event], names: Collection[str]) -> tuple[Event, ...]:
    return merged(event for event in events if event[1] not in names)


def _grouped(events: Iterable[Event]) -> list[Move]:
    """The moves, each with the components that ran after it; what ran before the first stands under a
    move of nothing."""
    made: list[tuple[Event, set[str]]] = [(("use", ""), set())]
    for event in events:
        if event[0] == "use":
            made[-1][1].add(event[1])
        else:
            made.append((event, set()))
    return [(move, frozenset(ran)) for move, ran in made]


def _folded(moves: list[Move]) -> list[Move]:
    """Without repetitions: ``a b c b c b c d`` reads ``a b c d``, the shortest first."""
    for width in range(1, len(moves) // 2 + 1):
        at = 0
        while at + 2 * width <= len(moves):
            first, second = moves[at : at + width], moves[at + width : at + 2 * width]
            if [move for move, _ in first] == [move for move, _ in second]:
                joined = [(a[0], a[1] | b[1]) for a, b in zip(first, second, strict=True)]
                moves = [*moves[:at], *joined, *moves[at + 2 * width :]]
            else:
                at += 1
    return moves
