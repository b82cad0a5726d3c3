"""One budget for all plans on a device: the first one's."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p7_session import BUDGET_DIFFERS
from planner.plan.model import Plan
from planner.schedule.fit import gib
from planner.session.machine import Room, room
from planner.session.pipeline_class import session_of
from planner.session.states import state_of


def agreed(
    plan: Plan, pipe: Any, device: Device, budget: int | None
) -> tuple[Room, tuple[Diagnostic, ...]] | None:
    """The room that other pipelines' plans on the device agreed on; None where there are none.

    Raises PlanError for a plan with a budget of its own, unless ``budget`` is theirs.
    """
    said, there = plan.budget.vram, room(plan, device.name)[0]
    wanted = None if said is None or budget is not None else said.of(there.total)
    if not (found := _budgets(pipe, device)):
        return None
    if wanted is not None and wanted != found[0][1]:
        gc.collect()  # a pipeline that was deleted may still be there
        if not (found := _budgets(pipe, device)):
            return None
        name, theirs = found[0]
        known = "none" if theirs is None else gib(theirs)
        problem = finding(
            BUDGET_DIFFERS,
            f'the plan says budget.vram {said.text if said else ""}, and the budget of plan "{name}", which '
            f"is on the same device, is {known}",
            span=plan.place("/budget/vram"),
            pointer="/budget/vram",
            hint="planner.apply(..., budget=session.budget)",
        )
        raise PlanError([problem], plan.document.sources)
    return replace(there, budget=found[0][1]), ()


def watch_overhead(device: Device, overhead: int) -> None:
    """What the driver shows beside weights and activations is held to ``overhead`` bytes from now on: by the
    first plan's, where the device has several; not at all where nobody knows what a context takes (0)."""
    if not overhead:
        return
    state = state_of(device)
    with state.lock:
        if len(state.residency.applied) == 1:
            state.residency.activations.watch(overhead)


def _budgets(pipe: Any, device: Device) -> list[tuple[str, int | None]]:
    """Of the plans of other pipelines on the device. Names and figures: nothing that would keep them
    alive."""
    mine = session_of(pipe)
    others = [a for a in state_of(device).residency.applied if mine is None or a is not mine.applied]
    return [(other.schedule.plan, other.budget) for other in others]
