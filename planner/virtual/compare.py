"""Planned events beside those that were seen; and a verdict as findings.

Plain tuples, so that whoever planned needs nothing from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.table import p7_virtual as codes

if TYPE_CHECKING:
    from planner.virtual.audit import Verdict

Event = tuple[str, str] | tuple[str, str, int]
"""``("load", component, bytes)``, ``("use", component)`` or ``("free", component, bytes)``."""


def compare(planned: Iterable[Event], seen: Iterable[Event]) -> tuple[Diagnostic, ...]:
    """The first difference, as a P759 finding; nothing when they are the same.

    A component may come in one piece or in many: neighbours of one kind and component count as one.
    """
    for position, (want, got) in enumerate(zip_longest(merged(planned), merged(seen)), 1):
        if want != got:
            return (
                finding(
                    codes.LEDGER_DEPARTS,
                    f"event {position}: planned {text(want)}, seen {text(got)}",
                ),
            )
    return ()


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """``events`` with neighbours of one kind and component as one, their bytes added."""
    out: list[Event] = []
    for event in events:
        if out and out[-1][:2] == event[:2]:
            last = out[-1]
            if len(event) == 3 and len(last) == 3:
                out[-1] = (event[0], event[1], last[2] + event[2])
        else:
            out.append(event)
    return tuple(out)


def findings(verdict: Verdict) -> tuple[Diagnostic, ...]:
    """Everything a verdict holds against a run."""
    return (
        *(finding(codes.MISS, str(miss)) for miss in verdict.misses),
        *(finding(_FAULTS[fault.kind], f'"{fault.label}": {fault.detail}') for fault in verdict.faults),
        *(finding(codes.WRONG_BYTES, str(wrong)) for wrong in verdict.wrong),
        *(
            finding(codes.NOT_FREED, f'"{label}" still has {nbytes} bytes on the device')
            for label, nbytes in sorted(verdict.left.items())
        ),
    )


_FAULTS: dict[str, Code] = {
    "read-before-wait": codes.READ_EARLY,
    "use-after-free": codes.USE_AFTER_FREE,
    "write-under-reader": codes.WRITE_EARLY,
    "free-in-flight": codes.FREE_IN_FLIGHT,
    "free-while-aliased": codes.FREE_ALIASED,
    "overwrite-while-aliased": codes.OVERWRITE_ALIASED,
}


def text(event: Event | None) -> str:
    """An event in words; None is nothing."""
    if event is None:
        return "nothing more"
    kind, component, *nbytes = event
    return f'{kind} "{component}"' + (f" of {nbytes[0]} bytes" if nbytes else "")
