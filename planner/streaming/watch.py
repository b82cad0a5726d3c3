"""How a component on the device hears that one of its blocks begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from planner.target.blocks import compiled

Call = Callable[[int, torch.nn.Module], None]


class Watch:
    """Hooks on modules, by block. What they call is outside of everything that is compiled."""

    def __init__(self) -> None:
        """On no module yet."""
        self._undo: dict[int, list[Callable[[], None]]] = {}

    def __contains__(self, index: int) -> bool:
        """Whether any module is hooked for this block."""
        return index in self._undo

    def set(self, index: int, owners: Iterable[torch.nn.Module], call: Call) -> None:
        """``call(index, owner)`` before any of ``owners`` runs, beside what is hooked for it already."""
        hook, undo = _Hook(call, index), self._undo.setdefault(index, [])
        for owner in owners:
            _before(owner, hook, undo)

    def forget(self, index: int) -> None:
        """Takes the block's hooks off."""
        for undo in self._undo.get(index, ()):
            undo()
        self._undo.pop(index, None)

    def clear(self) -> None:
        """Takes all of them off."""
        for index in [*self._undo]:
            self.forget(index)


class _Hook:
    """A forward pre-hook. A copy of a hooked module, deep or pickled, is under no plan: it has one that does
    nothing and needs nothing of ours."""

    def __init__(self, call: Call, index: int) -> None:
        self._call = call
        self._index = index

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._call(self._index, module)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


def _before(owner: torch.nn.Module, hook: _Hook, undo: list[Callable[[], None]]) -> None:
    """Calls ``hook`` before ``owner`` runs, outside of what is compiled. ``undo`` gets what takes it off
    again, which may be called twice."""
    inner = owner._compiled_call_impl
    if inner is None or not compiled(owner):
        handle = RemovableHandle(owner._forward_pre_hooks)
        undo.append(handle.remove)
        owner._forward_pre_hooks[handle.id] = hook
        owner._forward_pre_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
        return

    def call(*args: Any, **kwargs: Any) -> Any:
        hook(owner, args)
        return inner(*args, **kwargs)

    def restore() -> None:
        if owner.__dict__.get("_compiled_call_impl") is call:
            owner.__dict__["_compiled_call_impl"] = inner

    undo.append(restore)
    owner.__dict__["_compiled_call_impl"] = call
