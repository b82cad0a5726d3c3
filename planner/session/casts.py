"""A component that is cast inside a call and cast back, as SDXL's pipelines do with their VAE in each call.

Computed anew each time, that is a pass over all of its weights on the host, twice a call, and memory that is
registered anew. Where the cast loses nothing (float16 to float32), the tensors of before are what the way
back would compute, and those of the cast are what the next call would: both are kept, and change places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch

from planner.forms.wrapped import plain
from planner.host.entries import lie, versions
from planner.host.layout import HostWeights
from planner.host.regions import Table, entries_of

Function = Callable[[torch.Tensor], torch.Tensor]
Change = Mapping[torch.dtype, torch.dtype]
"""What becomes of each dtype of a component's tensors."""

WIDER = {
    torch.float16: (torch.float32, torch.float64),
    torch.bfloat16: (torch.float32, torch.float64),
    torch.float32: (torch.float64,),
}
"""Dtypes to which a cast loses nothing, so that the way back gives the same bits."""
SHAPES = ((3,), (2, 3, 4, 5), (1, 2, 3, 4, 5))
"""Of probes: a change of the memory format shows in those of four and five dimensions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a module's tables: the tensor that stands there, and what it held."""

    table: Table
    key: str
    tensor: torch.Tensor
    data: torch.Tensor

    def put_back(self) -> None:
        """It stands there and holds that again."""
        if isinstance(self.tensor, torch.nn.Parameter):
            self.tensor.data = self.data
        self.table[self.key] = self.tensor


@dataclass(frozen=True, slots=True)
class Form:
    """A component's tensors in one dtype; ``host``: their layout, None before there was one."""

    entries: tuple[Entry, ...]
    host: HostWeights | None


class Casts:
    """Of one component. ``other``: its tensors in the dtype that they do not have now, or None.

    Invariant: while its tensors are ``_tensors`` and lie as ``_since`` has it, they hold the values of
    ``other``'s: one of the two was cast to the other's dtype, the wider one, and neither was written since.
    """

    def __init__(self) -> None:
        """Nothing is kept."""
        self.other: Form | None = None
        self._tensors: list[torch.Tensor] = []
        self._since: list[Any] = []

    def forget(self) -> HostWeights | None:
        """What is kept is not needed any more; returns its layout, whose memory may be registered."""
        other, self.other = self.other, None
        self._tensors = []
        return None if other is None else other.host

    def follows(self, module: torch.nn.Module) -> bool:
        """Whether ``module`` still holds the values of what is kept."""
        if self.other is None:
            return False
        now = _tensors(module)
        same = len(now) == len(self._tensors) and all(map(is_, now, self._tensors))
        return same and _state(now) == self._since

    def note(self, module: torch.nn.Module) -> None:
        """Its tensors hold the values of what is kept, as they lie now."""
        self._tensors = _tensors(module)
        self._since = _state(self._tensors)

    def swap(
        self, module: torch.nn.Module, here: tuple[Entry, ...], change: Change, host: HostWeights | None
    ) -> Form | None:
        """Instead of ``change``: what is kept changes places with what is ``here``, laid out as ``host``,
        where that is the same. Returns what is there now, None where nothing was changed. Nothing is kept
        after an interrupt in it."""
        other = self.other if self.follows(module) else None
        if other is None:
            return None
        there = {(id(entry.table), entry.key): entry.data.dtype for entry in other.entries}
        if any(there.get((id(e.table), e.key)) is not change[e.data.dtype] for e in here):
            return None
        self.other = None
        for entry in other.entries:
            entry.put_back()
        self.keep(module, here, host)
        return other

    def keep(self, module: torch.nn.Module, before: tuple[Entry, ...], host: HostWeights | None) -> None:
        """``module`` holds the values of ``before``, laid out as ``host``, in another dtype."""
        self.note(module)
        self.other = Form(before, host)


def change_of(module: torch.nn.Module, function: Function) -> Change | None:
    """What ``function``, which is about to be applied to all of ``module``, does; None where it is not
    torch's own change of dtype alone, and where a tensor is no plain one that tells when it is written."""
    if getattr(function, "__module__", "") != torch.nn.Module.__module__:
        return None
    tensors = _tensors(module)
    if not all(plain(t) and not t.is_inference() and t.grad is None for t in tensors):
        return None
    found = {dtype: _cast(function, dtype) for dtype in {t.dtype for t in tensors}}
    known = {old: new for old, new in found.items() if new is not None}
    return known if len(known) == len(found) else None


def is_lossless(change: Change) -> bool:
    """Whether what it changes comes back bit by bit."""
    changed = {old: new for old, new in change.items() if old is not new}
    return bool(changed) and all(new in WIDER.get(old, ()) for old, new in changed.items())


def taken(module: torch.nn.Module) -> tuple[Entry, ...]:
    """What stands in its tables, which are on the host."""
    return tuple(Entry(table, key, tensor, tensor.data) for table, key, tensor in entries_of(module))


def _cast(function: Function, dtype: torch.dtype) -> torch.dtype | None:
    """What it makes of ``dtype``; None where it changes more than that."""
    found = None
    for shape in SHAPES:
        probe = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        made = function(probe)
        expected = probe.to(made.dtype)
        same = made.stride() == expected.stride() and made.device == probe.device
        if not same or not torch.equal(made.view(torch.uint8), expected.view(torch.uint8)):
            return None
        found = made.dtype
    return found


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor for _, _, tensor in entries_of(module)]


def _state(tensors: Sequence[torch.Tensor]) -> list[Any]:
    return [*versions(tensors), *lie(tensors)]
