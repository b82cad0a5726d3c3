"""Puts a schedule on a pipeline: whole, or not at all."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_session import LEFT_IN_PLACE, MOVED_WHOLE, STOCK_OFFLOAD
from planner.plan.model import Plan
from planner.schedule.model import Schedule
from planner.session.checks import is_left_in_place, modules_of, relay_of
from planner.session.hooks import HfHook, attach, watch_entries
from planner.session.member import Member
from planner.session.pageable import prepare_all
from planner.session.scope import enter_subclass
from planner.session.session import Session
from planner.session.shared import Relay
from planner.session.wrapped import parts, repacked


def attach_schedule(
    plan: Plan,
    schedule: Schedule,
    pipe: Any,
    device: Device,
    notes: tuple[Diagnostic, ...] = (),
    done: ExitStack | None = None,
) -> Session:
    """A session on ``pipe``. The pipeline must have passed ``check_pipeline``. ``done``: what was done to it
    for this plan already; it is taken back with the plan.

    Every component is brought to the CPU first and the device's cache emptied, as
    ``enable_model_cpu_offload`` does; then hooks, then what stays is placed. If anything raises,
    the pipeline is as it was found and the error goes on.
    """
    session = Session(plan, schedule, device, notes)
    with ExitStack() as failing:
        failing.callback(_back, {name: _device_of(m) for name, m in modules_of(pipe).items()}, pipe)
        undo = session.undo = failing.enter_context(ExitStack())
        if done is not None:
            undo.callback(done.close)
        failing.callback(_uncap, session)
        _free_of_stock(pipe, session, undo)
        entries = _entries(schedule)
        for name, module in modules_of(pipe).items():
            _adopt(session, name, module, entries.get(name, ()), undo)
        session._return_memory()
        _tile(plan, pipe, undo)
        session.notes += prepare_all(session)
        for member in list(session.members.values()):
            if member.fixed and not member.left:
                session.place(member)
        given = (session, weakref.proxy(pipe), entries)
        enter_subclass(pipe, session, partial(_take_in, *given), partial(_refresh, *given), undo)
        weakref.finalize(pipe, _gone, weakref.ref(session), session._pins).atexit = False
        session.undo = undo.pop_all()
        failing.pop_all()
    return session


def _uncap(session: Session) -> None:
    """Applying failed: the cap is what it was."""
    session.removed = True
    others = session.group.living()
    session.device.cap(others[0].schedule.course.budget if others and others[0].capped else None)


def _gone(session: weakref.ref[Session], pins: Pins) -> None:
    """The pipeline was deleted: so is its plan, whoever keeps the session."""
    if (alive := session()) is not None:
        alive.remove()
    pins.close()


def _adopt(
    session: Session, name: str, module: torch.nn.Module, entries: tuple[str, ...], undo: ExitStack
) -> None:
    """One component under the session, its weights on the CPU."""
    left = is_left_in_place(module)
    if left:
        session.notes.append(
            finding(LEFT_IN_PLACE, f'component "{name}" is 8-bit bitsandbytes and stays where it is')
        )
    elif _device_of(module).type != "cpu":
        module.to("cpu")  # where another plan has it on the device, it sends it home
    tensors = (*module.parameters(), *module.buffers())
    whole = not left and any(parts(t) is None or repacked(t, session.device.name) for t in tensors)
    if whole:
        session.notes.append(
            finding(MOVED_WHOLE, f'component "{name}" has tensors that only its own class can move')
        )
    fixed = name in session.schedule.course.fixed
    placement = session.schedule.placements.get(name)
    session.members[name] = Member(name, module, placement, fixed=fixed, whole=whole, left=left)
    hooks = session.hooks[name] = undo.enter_context(ExitStack())
    relay = relay_of(module)
    if relay is None:
        relay = Relay(session.device, session.group)
        attach(relay, name, module, entries, relay.undo)
    else:
        watch_entries(relay, name, module, entries, relay.undo)
    session.relays[name] = relay
    hooks.callback(relay.join(session, name))


def _take_in(session: Session, pipe: Any, entries: dict[str, tuple[str, ...]]) -> None:
    """Components replaced or added since are adopted, those that are gone dismissed. Hooks that others put in
    our place are wrapped."""
    with session._lock:
        now = modules_of(pipe)
        for name, mine in list(session.members.items()):
            if not any(mine.module is module for module in now.values()):
                session.dismiss(name)
        for name, module in now.items():
            member = session.members.get(name)
            if member is None or member.module is not module:
                if not any(m.module is module for m in session.members.values()):
                    _adopt(session, name, module, entries.get(name, ()), session.undo)
            elif not _hooked(module):
                relay = session.relays[name]
                module.__dict__["_hf_hook"] = HfHook(relay, name, module.__dict__.get("_hf_hook"))


def _refresh(session: Session, pipe: Any, entries: dict[str, tuple[str, ...]]) -> None:
    """A call begins: what is new is adopted, what was changed inside comes from home again, and what stays is
    placed where it was sent home."""
    with session._lock:
        _take_in(session, pipe, entries)
        for name in session.aboard.idle():
            if session.members[name].rebuilt:
                session.aboard.evict(name)
        missing = [mine for mine in session.members.values() if mine.fixed and not mine.here]
        if missing:
            session.group.begin(session)
        for mine in missing:
            if not mine.here:
                session.place(mine)


def _hooked(module: torch.nn.Module) -> bool:
    hook = module.__dict__.get("_hf_hook")
    return isinstance(hook, HfHook) or any(isinstance(h, HfHook) for h in getattr(hook, "hooks", ()))


def _entries(schedule: Schedule) -> dict[str, tuple[str, ...]]:
    """Entry points by component: those that the walk names."""
    found: dict[str, dict[str, None]] = {}
    for node in schedule.course.walk:
        for run in node.runs:
            if run.entry:
                found.setdefault(run.component, {})[run.entry] = None
    return {name: tuple(entries) for name, entries in found.items()}


def _free_of_stock(pipe: Any, session: Session, undo: ExitStack) -> None:
    """Takes diffusers' and accelerate's own offload hooks off, leaving hooks of others."""
    from accelerate.hooks import AlignDevicesHook, CpuOffload, add_hook_to_module, remove_hook_from_module

    freed = []
    for name, module in modules_of(pipe).items():
        chain = _chain(module.__dict__.get("_hf_hook"))
        if not any(isinstance(h, (CpuOffload, AlignDevicesHook)) for h in chain):
            below = [m for m in module.modules() if isinstance(m.__dict__.get("_hf_hook"), AlignDevicesHook)]
            if not below:
                continue
        remove_hook_from_module(module, recurse=True)
        for hook in chain:
            if not isinstance(hook, (CpuOffload, AlignDevicesHook)):
                add_hook_to_module(module, hook, append=True)
        freed.append(name)
    if freed:
        before = getattr(pipe, "_offload_device", None)
        stock = list(getattr(pipe, "_all_hooks", []))
        pipe._all_hooks = []
        if stock and before is not None:
            undo.callback(_restore_stock, pipe, before, session)
        session.notes.append(finding(STOCK_OFFLOAD, f"freed of diffusers' own offload: {', '.join(freed)}"))


def _restore_stock(pipe: Any, device: Any, session: Session) -> None:
    """Only when applying failed: a removed plan leaves a plain pipeline."""
    if not session.removed:
        pipe.enable_model_cpu_offload(device=device)


def _chain(hook: Any) -> list[Any]:
    if hook is None:
        return []
    return [h for inner in hook.hooks for h in _chain(inner)] if hasattr(hook, "hooks") else [hook]


def _device_of(module: torch.nn.Module) -> torch.device:
    return next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _back(devices: dict[str, torch.device], pipe: Any) -> None:
    """Applying failed: every component returns to where it was."""
    for name, module in modules_of(pipe).items():
        before = devices.get(name)
        if before is not None and before.type != "meta" and _device_of(module) != before:
            module.to(before)


def _tile(plan: Plan, pipe: Any, undo: ExitStack) -> None:
    """``tiling`` as the plan wants it, and as it was when the plan goes."""
    for name, said in plan.components.items():
        component = pipe.components.get(name)
        if said.tiling is None or component is None:
            continue
        was = getattr(component, "use_tiling", False)
        if was != said.tiling:
            (component.enable_tiling if said.tiling else component.disable_tiling)()
            undo.callback(component.disable_tiling if said.tiling else component.enable_tiling)
