"""A component that is cast inside a call and cast back, as SDXL's pipelines do with their VAE in each call.

Computed anew each time, that is a pass over all of its weights on the host, twice a call, and memory that is
registered anew. Where the cast loses nothing (float16 to float32), the tensors of before are what the way
back would compute, and those of the cast are what the next call would: both are kept, and change places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from planner.forms.wrapped import plain
from planner.host.layout import HostWeights
from planner.host.regions import Table

Function = Callable[[torch.Tensor], torch.Tensor]

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


Lie = tuple[int, int, int]
"""Of a tensor: ``id``, how often it was written in place, and where its bytes are."""


class Casts:
    """Of one component. ``other``: its tensors in the dtype that they do not have now, or None.

    Invariant: while they lie as ``_since`` has it, the component's tensors hold the values of ``other``'s:
    one of the two was cast to the other's dtype, the wider one, and neither was written since.
    """

    def __init__(self) -> None:
        """Nothing is kept."""
        self.other: Form | None = None
        self._since: tuple[Lie, ...] = ()

    def forget(self) -> HostWeights | None:
        """What is kept is not needed any more; returns its layout, whose memory may be registered."""
        other, self.other = self.other, None
        return None if other is None else other.host

    def follows(self, module: torch.nn.Module) -> bool:
        """Whether ``module`` still holds the values of what is kept."""
        return self.other is not None and self._since == _lies(module)

    def note(self, module: torch.nn.Module) -> None:
        """Its tensors were laid out anew, with the values that they had."""
        self._since = _lies(module)

    def swap(self, module: torch.nn.Module, function: Function, host: HostWeights | None) -> Form | None:
        """Instead of applying ``function`` to ``module``, which is laid out as ``host``: what is kept changes
        places with what is there, where that is the same. Returns what is there now, None where nothing was
        changed. Nothing is kept after an interrupt in it."""
        other = self.other if self.follows(module) else None
        here = taken(module)
        if other is None or any(_cast(function, old) is not new for old, new in _dtypes(here, other.entries)):
            return None
        self.other = None
        for entry in other.entries:
            entry.put_back()
        self._since = _lies(module)
        self.other = Form(here, host)
        return other

    def keep(self, module: torch.nn.Module, before: tuple[Entry, ...], host: HostWeights | None) -> bool:
        """``module`` was cast, and held ``before`` until then, laid out as ``host``. Whether that is kept:
        only what is narrower than what it is now."""
        changes = {(old, new) for old, new in _dtypes(before, taken(module)) if old is not new}
        if not changes or any(new not in WIDER.get(old, ()) for old, new in changes):
            return False
        self._since = _lies(module)
        self.other = Form(before, host)
        return True


def casts(module: torch.nn.Module, function: Function) -> bool:
    """Whether ``function``, which is about to be applied to all of ``module``, is torch's own change of
    dtype and nothing else, and its tensors are plain ones that tell when they are written."""
    if getattr(function, "__module__", "") != torch.nn.Module.__module__:
        return False
    tensors = [tensor for _, _, tensor in _tensors(module)]
    if not all(plain(t) and not t.is_inference() and t.grad is None for t in tensors):
        return False
    return all(_cast(function, dtype) is not None for dtype in {t.dtype for t in tensors})


def taken(module: torch.nn.Module) -> tuple[Entry, ...]:
    """What stands in its tables, which are on the host."""
    return tuple(Entry(table, key, tensor, tensor.data) for table, key, tensor in _tensors(module))


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


def _dtypes(
    before: tuple[Entry, ...], after: tuple[Entry, ...]
) -> set[tuple[torch.dtype, torch.dtype | None]]:
    """Each dtype with what became of it, None where an entry is gone."""
    now = {(id(e.table), e.key): e.data.dtype for e in after}
    return {(e.data.dtype, now.get((id(e.table), e.key))) for e in before}


def _tensors(module: torch.nn.Module) -> Iterator[tuple[Table, str, torch.Tensor]]:
    for part in module.modules():
        tables: tuple[Table, Table] = (part._parameters, part._buffers)  # type: ignore[assignment]
        for table in tables:
            yield from ((table, key, tensor) for key, tensor in table.items() if tensor is not None)


def _lies(module: torch.nn.Module) -> tuple[Lie, ...]:
    found = (tensor for _, _, tensor in _tensors(module))
    return tuple((id(t), 0 if t.is_inference() else t._version, t.data_ptr()) for t in found)
