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
    guard_new_modules(state, component)
    torch.nn.Module._apply = _apply  # type: ignore[method-assign]


def guard_new_modules(state: DeviceState, component: ManagedComponent) -> None:
    """Those that were put into it since (LoRA layers)."""
    if component.module is not None:
        _guarded.update((part, (state, component)) for part in component.module.modules())


def _apply(self: torch.nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
    """As ``Module._apply``."""
    found = _guarded.get(self)
    if found is None or found[1].being_cast:
        return _original(self, fn, recurse)
    state, component = found

    def apply() -> None:
        try:
            component.being_cast = True
            if state.may_apply(component, fn):
                _original(self, fn, recurse)
        finally:
            component.being_cast = False

    state.entered(apply)
    return self
