"""``Module._apply``, through which every ``to``, ``half`` and ``cpu`` goes, of components under a plan and of
their submodules: a change of dtype is done to the host's tensors, a move to a device is refused.

It is torch's own method that is wrapped, once for the process and while any plan holds: a wrapper on each of
thousands of submodules would be copied and pickled with them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import MOVE_REFUSED
from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState
from planner.session.undo import Undo

_guarded: weakref.WeakKeyDictionary[torch.nn.Module, tuple[DeviceState, ManagedComponent]]
_guarded = weakref.WeakKeyDictionary()
"""Every module of every component under a plan."""
_original: Any = None


def guard(state: DeviceState, component: ManagedComponent, undo: Undo) -> None:
    """The modules that ``component`` has now; ``undo`` ends it."""
    global _original
    if torch.nn.Module._apply is not _apply:
        _original = torch.nn.Module._apply

    def end() -> None:
        for module in [module for module, (_, mine) in [*_guarded.items()] if mine is component]:
            _guarded.pop(module, None)
        if not _guarded and torch.nn.Module._apply is _apply:
            torch.nn.Module._apply = _original  # type: ignore[method-assign]

    undo.add(end)
    if component.module is not None:
        _guarded.update((part, (state, component)) for part in component.module.modules())
    torch.nn.Module._apply = _apply  # type: ignore[method-assign]


def _apply(self: torch.nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
    """As ``Module._apply``."""
    found = _guarded.get(self)
    if found is None or found[1].being_cast:
        return _original(self, fn, recurse)
    state, component = found

    def apply() -> None:
        found = state.charged(component)
        in_scope = found is not None and state.in_scope(found[0])
        try:
            component.being_cast = True
            if _may_apply(state, component, fn, in_scope=in_scope):
                keep = in_scope and recurse and self is component.module
                component.apply(fn, lambda: _original(self, fn, recurse), keep=keep)
        finally:
            component.being_cast = False

    state.entered(apply)
    return self


def _may_apply(
    state: DeviceState,
    component: ManagedComponent,
    fn: Callable[[torch.Tensor], torch.Tensor],
    *,
    in_scope: bool,
) -> bool:
    """``fn`` is about to be applied to tensors of ``component``, of a plan with a call that goes on where it
    is ``in_scope``. True when the host's should be changed by it.

    Pipelines move components themselves now and then (``self.safety_checker.to(device)``): to the execution
    device inside a call that is a use, and back to the CPU an eviction. Raises PlanError (P713) for others.
    """
    with torch.no_grad():
        target = fn(torch.empty(0)).device
    if target.type not in ("cpu", state.device.name.type) or (target.type != "cpu" and not in_scope):
        found = state.charged(component)
        plan = found[0].schedule.plan if found is not None else ""
        said = f'"{component.label}" is under plan "{plan}" and was asked to move to "{target}"'
        raise PlanError([finding(MOVE_REFUSED, said, hint="session.remove() gives it back")])
    if target.type != "cpu":
        state.touch(component)
        return False
    if component.left_in_place or (component.on_device and component.unchanged_by(fn)):
        return False
    state.evict_idle(component, "was cast or moved")
    return True
