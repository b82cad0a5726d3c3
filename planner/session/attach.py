"""Puts a schedule on a pipeline, whole or not at all."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.table.p7_session import LEFT_IN_PLACE, MOVED_WHOLE, NOT_PUT_BACK
from planner.forms.eight_bit import to_weights
from planner.forms.wrapped import parts, repacked
from planner.plan.model import Plan
from planner.predict.needs import Expected
from planner.schedule.model import Schedule
from planner.session import moves, stock
from planner.session.applied import Applied
from planner.session.checks import is_left_in_place, modules_of
from planner.session.component_class import is_under_plan, put_under_plan, watch_entries
from planner.session.hf_hook import is_hooked, put_hook
from planner.session.onload import check
from planner.session.pinning import prepare_all
from planner.session.pipeline_class import put_under_plan as put_pipeline_under_plan
from planner.session.remove import remove_gone
from planner.session.residency import empty_cache
from planner.session.session import Session
from planner.session.states import applying, state_of
from planner.session.undo import Undo
from planner.session.vae_options import set_options

Entries = dict[str, tuple[str, ...]]
"""Entry points by component: those that the walk names."""


def attach_schedule(
    plan: Plan,
    schedule: Schedule,
    pipe: Any,
    device: Device,
    notes: tuple[Diagnostic, ...] = (),
    done: ExitStack | None = None,
    expected: Mapping[str, Expected] = MappingProxyType({}),
) -> Session:
    """A session on ``pipe``. The pipeline must have passed ``check_pipeline``. ``done``: what was done to it
    for this plan already; it is taken back with the plan. ``expected``: what activations are predicted to
    take, by component.

    Every component is brought to the CPU first and the device's cache emptied, as
    ``enable_model_cpu_offload`` does; then classes, then what stays is placed. If anything raises,
    the pipeline is as it was found and the error goes on.
    """
    applied = Applied(plan, schedule, state_of(device), notes)
    return applied.state.entered(_attach, applied, pipe, done, expected)


def _attach(applied: Applied, pipe: Any, done: ExitStack | None, expected: Mapping[str, Expected]) -> Session:
    state, failing = applied.state, Undo()
    give_up = [failing.close, applied.remove]
    try:
        applying.add(state)
        state.closing += give_up  # before anything is done, wherever an interrupt falls
        if done is not None:
            applied.undo.add(done.close)
        session = _put_on(applied, pipe, failing, expected)
        state.closing = [step for step in state.closing if step not in give_up]
        applying.discard(state)
        return session
    except BaseException:
        state.closing += [step for step in give_up if step not in state.closing]
        state.finish()
        applying.discard(state)
        raise


def _put_on(applied: Applied, pipe: Any, failing: Undo, expected: Mapping[str, Expected]) -> Session:
    """All of it, with the state's lock held."""
    state, entries = applied.state, _entries(applied.schedule)
    applied.notes += stock.take_off(pipe, failing)
    state.residency.join(applied)
    for name, module in modules_of(pipe).items():
        set_options(applied.plan, pipe, module, applied.undo)
        _adopt(applied, name, module, entries.get(name, ()))
    for name, one in expected.items():
        if name in applied.components:
            state.residency.activations.expect(applied.components[name], one.nbytes, one.signature)
    empty_cache(state.device.name)
    applied.notes += prepare_all(applied)
    session = Session(applied)
    given = (applied, entries)
    adopt = partial(state.entered, _take_in, *given)
    put_pipeline_under_plan(pipe, session, adopt, partial(_refresh, *given), applied.undo)
    gone = weakref.finalize(pipe, remove_gone, applied)
    gone.atexit = False
    applied.undo.add(gone.detach)
    check(state.residency, applied)
    return session


def _adopt(applied: Applied, name: str, module: torch.nn.Module, entries: tuple[str, ...]) -> None:
    """One component under the plan, its weights on the CPU."""
    state, residency = applied.state, applied.state.residency
    left = is_left_in_place(module)
    if left:
        said = f'component "{name}" is 8-bit bitsandbytes and stays where it is'
        applied.notes.append(finding(LEFT_IN_PLACE, said))
    known = residency.components.get(id(module))
    if not left and (known is None or known.module is not module):
        _to_the_host(applied, name, module)
    tensors = (*module.parameters(), *module.buffers())
    if not left and any(parts(t) is None or repacked(t, state.device.name) for t in tensors):
        said = f'component "{name}" has tensors that only their own class can move'
        applied.notes.append(finding(MOVED_WHOLE, said))
    component = residency.manage(module, name, left_in_place=left)
    applied.components[name] = component
    inside = {*module.modules()}
    for other in residency.components.values():
        if (
            other is not component
            and other.module is not None
            and not inside.isdisjoint(other.module.modules())
        ):
            other.shares = component.shares = True
    undo = component.undo
    if is_under_plan(module):
        watch_entries(state, component, module, entries, undo)
        return
    held = weakref.ref(module)
    undo.add(lambda: None if (found := held()) is None else to_weights(found))
    put_hook(state, component, module, undo)
    put_under_plan(state, component, module, entries, undo)
    moves.guard(state, component, undo)


def _to_the_host(applied: Applied, name: str, module: torch.nn.Module) -> None:
    """A component that was found elsewhere lies there again when the plan is gone."""
    found = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    if found.type in ("cpu", "meta"):
        return
    held = weakref.ref(module)

    def back() -> None:
        if (module := held()) is None or is_under_plan(module):
            return
        try:
            to_weights(module)
            module.to(found)
        except torch.OutOfMemoryError as error:
            said = (
                f'component "{name}" was found on {found} and stays on the CPU: {str(error).splitlines()[0]}'
            )
            applied.notes.append(finding(NOT_PUT_BACK, said))

    applied.undo.add(back)
    to_weights(module)
    module.to("cpu")


def _take_in(applied: Applied, entries: Entries, pipe: Any) -> None:
    """Components replaced or added since are adopted, those that are gone dismissed. Hooks that others put in
    our place are wrapped. With the state's lock held."""
    now = modules_of(pipe)
    for name, known in [*applied.components.items()]:
        if not any(known.module is module for module in now.values()):
            applied.state.residency.dismiss(applied, name)
    for name, module in now.items():
        mine = next((c for c in applied.components.values() if c.module is module), None)
        if mine is None:
            missing = set_options(applied.plan, pipe, module, applied.undo)
            applied.notes += (replace(one, severity=Severity.WARNING) for one in missing)
            _adopt(applied, name, module, entries.get(name, ()))
        elif not is_hooked(module):
            put_hook(applied.state, mine, module, mine.undo)


def _refresh(applied: Applied, entries: Entries, pipe: Any) -> None:
    """A call begins: what is new is adopted, what was changed comes again, and what stays is placed."""
    _take_in(applied, entries, pipe)
    check(applied.state.residency, applied)


def _entries(schedule: Schedule) -> Entries:
    found: dict[str, dict[str, None]] = {}
    for node in schedule.course.walk:
        for run in node.runs:
            if run.entry:
                found.setdefault(run.component, {})[run.entry] = None
    return {name: tuple(entries) for name, entries in found.items()}
