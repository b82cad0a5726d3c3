"""Why nothing fits, and what would, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from planner.diagnostics.diagnostic import PlanError, errors, finding
from planner.diagnostics.table.p6_schedule import ACTIVATIONS_TOO_LARGE, HOST_TOO_SMALL
from planner.diagnostics.table.p9_fit import NOTHING_FITS
from planner.fitting.helps import Change, Helps, found_in
from planner.fitting.least import MIB, least_budget, smallest
from planner.fitting.price import Refused
from planner.fitting.solution import Task
from planner.schedule.fit import gib


def host_too(error: PlanError, task: Task, changed: Callable[[Change], Task | None]) -> PlanError:
    """``error``; where the host has too little for the plan's weights, with what the device has too little
    for."""
    if {one.code for one in errors(error.diagnostics)} != {HOST_TOO_SMALL}:
        return error
    there = changed(Change("without budget.ram", (("budget.ram", "null"),)))
    assert there is not None
    if found_in(there):
        return error
    return PlanError([*error.diagnostics, *refusal((there,), None).diagnostics], task.plan.document.sources)


def refusal(tasks: Sequence[Task], would: Helps | None) -> PlanError:
    """Why nothing fits, each limit that was met, and what would help; ``tasks``: each change of the picture
    that was tried, none first; ``would``: None where nothing else was tried."""
    task = tasks[0]
    why = _why(task)
    task.watch.begins("looking for the least memory")
    least = least_budget(tasks)
    hint = "; ".join(
        filter(None, (f"{least // MIB}MiB is the least that fits" if least else "", *_hints(would)))
    )
    budget = gib(task.room.budget) if task.room.budget is not None else "what there is"
    span = task.plan.document.spans.get("/budget/vram")
    said = f"no plan for this call fits in {budget}: {why.why}"
    found = [finding(NOTHING_FITS, said, span=span, hint=hint)]
    found += [replace(one, hint="") for one in why.found]  # their least is without activations
    return PlanError(found, task.plan.document.sources)


def _why(task: Task) -> Refused:
    """By what the two plans fail that hold the least: activations, where they do not fit beside as little
    weights as can be; else what the compiler says of the plan as it is."""
    pricer = task.pricer()
    found = [pricer.price(settings, exact=exact) for settings, exact in smallest(task)]
    refused = [one for one in found if isinstance(one, Refused)]
    streamed = refused[-1]
    return streamed if any(one.code is ACTIVATIONS_TOO_LARGE for one in streamed.found) else refused[0]


def _hints(would: Helps | None) -> Iterator[str]:
    if would is None:
        return
    with_each = [one if one.startswith("without ") else f"with {one}" for one in would.enough]
    if with_each:
        yield f"a plan fits {', or '.join(with_each)}"
    if would.weights:
        yield "weights alone do not fit, so that smaller activations do not help"
    if would.little:
        yield f"not enough: {', '.join(would.little)}"
    if would.untried:
        yield f"not tried, as such calls cannot be traced here: {', '.join(would.untried)}"
