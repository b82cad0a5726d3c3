"""A component is about to run: what leaves the device for it, and what comes.

Evicted are those that the plan has leave at this stage; then, where the budget would be passed, idle ones,
those of other plans first; and in the end more of the component itself streams than was planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from planner.schedule.guide import Decision
from planner.session.applied import Applied
from planner.session.component import ManagedComponent, State
from planner.session.residency import Residency
from planner.session.signature import signature


def begin_scope(residency: Residency, applied: Applied) -> None:
    """The outermost scope of a plan begins."""
    _evict_others(residency, applied)
    applied.begin()
    residency.activations.begin()


def check(residency: Residency, applied: Applied) -> None:
    """A call of the outermost scope begins: what was changed on the host or past our hooks comes again, and
    what stays is placed where it was sent home."""
    for name in applied.idle():
        if applied.components[name].stale(thoroughly=True):
            residency.evict(applied, name)
    missing = [
        name
        for name, component in applied.components.items()
        if applied.wish(name).fixed and _is_incomplete(component) and not component.left_in_place
    ]
    if missing:
        _evict_others(residency, applied)
    for name in missing:
        residency.load(applied, name, "")
        if (weights := applied.components[name].weights) is not None:
            weights.settle()


def onload(
    residency: Residency,
    applied: Applied,
    name: str,
    entry: str,
    decision: Decision | None,
    given: Any = None,
) -> None:
    """Makes a component resident, to run through ``entry``, and writes it down. ``decision``: what the walk
    has for this use, None outside of a scope; ``given``: its arguments, None where nothing says what it runs
    with."""
    component, device = applied.components[name], residency.device
    stage = "" if decision is None else decision.stage
    for leaving in () if decision is None else decision.evict:
        if applied.components[leaving] not in residency.running_components():
            residency.evict(applied, leaving, stage)
    if component.stale(thoroughly=component.checked != applied.epoch) or _is_as_another_wants(applied, name):
        residency.evict(applied, name, stage)
    component.checked = applied.epoch
    incoming = _fit(residency, applied, name, entry, stage)
    # The host waits for what runs; where segments do not expand for all of the device, copies too.
    if residency.activations.enter(component, entry, incoming):
        device.empty_cache()
    if not component.left_in_place and (incoming or _is_incomplete(component)):
        residency.load(applied, name, stage, entry)
    if decision is not None and decision.ahead is not None:
        residency.load_early(applied, *decision.ahead, stage, beside=(component, entry))
    # Enough for it to run, at first; in a loop the rest goes at the next step, while the device computes.
    reserve = None
    if given is not None and not applied.used(name):
        reserve = residency.activations.reserve(component, signature(component.module, entry, given))
    device.release_freed(reserve)
    applied.write("use", name, entry, stage)


def evict_for_retry(residency: Residency, applied: Applied, name: str) -> bool:
    """A component ran out of memory. True when less is on the device when it runs next."""
    component, device = applied.components[name], residency.device
    if component in residency.running_components() or component.left_in_place:
        return False
    if device.release_freed():
        return True
    wish = applied.wish(name)
    held = component.held(wish) or 0
    residency.activations.raise_after_oom(component)
    before = device.own
    _make_room(residency, applied, name, "", _incoming(applied, name), "")
    less = (component.held(wish) or 0) < held and not wish.fixed
    if less and component.on_device:
        residency.evict(applied, name)
    if less or device.own < before:
        applied.departs(f"{name} ran out of memory, and again with less to stay")
        return True
    return False


def _evict_others(residency: Residency, applied: Applied) -> None:
    """A plan is about to run: what only others have makes room for it, what stays by a plan last."""
    budget, peak = applied.schedule.course.budget, applied.schedule.peak
    if budget is None:
        return
    spare = 0 if peak is None else budget - peak
    others = [*residency.idle_of_others(applied)]
    for plan, name in sorted(others, key=lambda found: found[0].wish(found[1]).fixed):
        if sum(p.nbytes(n) for p, n in others if p.components[n].on_device) > spare:
            residency.evict(plan, name)


def _fit(residency: Residency, applied: Applied, name: str, entry: str, stage: str) -> int:
    """Makes room for a component; returns the bytes that are still to come. Where something else refers to
    weights that should have left, less of it stays than was planned; raises torch's OutOfMemoryError where
    that does not do."""
    component, activations = applied.components[name], residency.activations
    incoming = _incoming(applied, name)
    _make_room(residency, applied, name, entry, incoming, stage)
    abandoned = residency.device.abandoned
    if not abandoned or not activations.shortfall(component, entry, incoming):
        return incoming
    less = component.held(applied.wish(name))
    if component.weights is not None and less is not None and less < component.weights.full:
        residency.evict(applied, name, stage)
        incoming = _incoming(applied, name)
    if not activations.capped and activations.shortfall(component, entry, incoming):
        raise torch.OutOfMemoryError(
            f"{residency.device.name}: {incoming} bytes of {name} do not fit the budget beside {abandoned} "
            "bytes of weights that something else still refers to"
        )
    return incoming


def _make_room(
    residency: Residency, applied: Applied, name: str, entry: str, incoming: int, stage: str
) -> None:
    """Idle components are evicted where the activations of a component and its ``incoming`` bytes would not
    fit beside them: first a part of each, then all of it."""
    component = applied.components[name]
    spare = [*_spare(residency, applied, name)]
    for whole in (False, True):
        for plan, other in spare:
            spared = plan is not applied or applied.guide.is_over(other)
            short = residency.activations.shortfall(component, entry, incoming, spared=spared)
            if short and whole:
                residency.evict(plan, other, stage)
            elif short:
                plan.components[other].shed(short)


def _spare(residency: Residency, applied: Applied, name: str) -> Iterator[tuple[Applied, str]]:
    """What may leave while a component runs, those of other plans first."""
    kept = [applied.components[name], *residency.running_components()]
    others = ((p, n) for p, n in residency.idle_of_others(applied) if not p.wish(n).fixed)
    own = ((applied, n) for n in applied.guide.spare(name, applied.resident()))
    yield from ((plan, n) for plan, n in (*others, *own) if plan.components[n] not in kept)


def _incoming(applied: Applied, name: str) -> int:
    """Bytes that are still to come, for a component to run. What is there may grow when it is used first."""
    component = applied.components[name]
    if component.state is State.RESIDENT and applied.used(name):
        return 0
    size = component.incoming(applied.wish(name), may_grow=not applied.used(name))
    return applied.schedule.course.size(name) if size is None else size


def _is_incomplete(component: ManagedComponent) -> bool:
    return component.state in (State.AWAY, State.PARTIAL)


def _is_as_another_wants(applied: Applied, name: str) -> bool:
    """Whether a component that another plan brought has another part resident than this plan wants."""
    component = applied.components[name]
    if component.weights is None or component.placed_by in (None, applied):
        return False
    return component.weights.full != component.held(applied.wish(name))
