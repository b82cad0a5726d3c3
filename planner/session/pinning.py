"""Host memory made ready for the device: pinned in the schedule's order, and what stays pageable is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.table.p7_session import PAGEABLE_BY_BUDGET, PAGEABLE_BY_MACHINE
from planner.plan.model import Plan
from planner.schedule.fit import gib
from planner.session.applied import Applied


def prepare_all(applied: Applied) -> Iterator[Diagnostic]:
    """Packs and registers every component, those first whose bytes cross most often."""
    over: dict[str, int] = {}
    refused: dict[str, int] = {}
    pins, components = applied.state.residency.pins, applied.components
    order = (*(name for name in applied.schedule.pins if name in components), *components)
    for name in dict.fromkeys(order):
        before = pins.over, pins.refused
        components[name].prepare()
        over[name], refused[name] = pins.over - before[0], pins.refused - before[1]
    yield from _told(applied.plan, PAGEABLE_BY_BUDGET, "more than budget.pinned", over)
    yield from _told(applied.plan, PAGEABLE_BY_MACHINE, "which the machine did not register", refused)


def _told(plan: Plan, code: Code, why: str, sizes: Mapping[str, int]) -> Iterator[Diagnostic]:
    if total := sum(sizes.values()):
        listed = ", ".join(f"{name} {gib(size)}" for name, size in sizes.items() if size)
        said = f"{gib(total)} of host memory stay pageable, {why}: {listed}"
        yield finding(code, said, span=plan.place("/budget/pinned"))
