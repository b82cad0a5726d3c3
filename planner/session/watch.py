"""How a placed component hears that one of its blocks begins, and for how long each computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from planner.device.protocol import Device
from planner.target.blocks import compiled

Call = Callable[[int, torch.nn.Module], None]


class Watch:
    """Hooks on modules, by batch. What they call is outside of everything that is compiled."""

    def __init__(self) -> None:
        """On nobody yet."""
        self._undo: dict[int, list[Callable[[], None]]] = {}

    def __contains__(self, number: int) -> bool:
        """Whether anybody is watched for this batch."""
        return number in self._undo

    def set(self, number: int, owners: Iterable[torch.nn.Module], call: Call) -> None:
        """``call(number, owner)`` before any of ``owners`` runs, beside what is watched for it already."""
        hook = _Hook(call, number)
        self._undo.setdefault(number, []).extend(_before(owner, hook) for owner in owners)

    def forget(self, number: int) -> None:
        """Takes the batch's hooks off."""
        for undo in self._undo.pop(number, ()):
            undo()

    def clear(self) -> None:
        """Takes all of them off."""
        for number in list(self._undo):
            self.forget(number)


class Clock:
    """How long each block computes, where the device can tell: the time between two marks on its lane."""

    def __init__(self, device: Device) -> None:
        """Stands still until ``running``."""
        self._device = device
        self._open: tuple[int, Any] | None = None
        self._marks: list[tuple[int, Any, Any]] = []
        self.running = False

    def start(self, number: int) -> None:
        """Block ``number`` begins: what it waited for is there."""
        if self.running and (mark := self._device.mark()) is not None:
            self._open = (number, mark)

    def stop(self) -> None:
        """The block that was begun is over."""
        if self._open is not None:
            self._marks.append((*self._open, self._device.mark()))
            self._open = None

    def read(self, *, wait: bool = False) -> dict[int, float]:
        """Seconds by block, once; none before the device has done all of it, but by waiting."""
        if not self._marks or not (wait or self._device.passed(self._marks[-1][2])):
            return {}
        marks, self._marks = self._marks, []
        return {number: self._device.between(start, end) for number, start, end in marks}


class _Hook:
    """A forward pre-hook."""

    def __init__(self, call: Call, number: int) -> None:
        self._call = call
        self._number = number

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._call(self._number, module)


def _before(owner: torch.nn.Module, hook: _Hook) -> Callable[[], None]:
    """Calls ``hook`` before ``owner`` runs, outside of what is compiled. Returns what takes it off again."""
    inner = owner._compiled_call_impl
    if inner is None or not compiled(owner):
        return owner.register_forward_pre_hook(hook, prepend=True).remove

    def call(*args: Any, **kwargs: Any) -> Any:
        hook(owner, args)
        return inner(*args, **kwargs)

    owner.__dict__["_compiled_call_impl"] = call

    def undo() -> None:
        if owner.__dict__.get("_compiled_call_impl") is call:
            owner.__dict__["_compiled_call_impl"] = inner

    return undo
