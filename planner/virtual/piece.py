"""One allocation of the virtual accelerator: its bytes, who used them, and which tensors lie over them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol
from weakref import ref

import torch

from planner.device.protocol import Region
from planner.virtual.memory import Block
from planner.virtual.own_work import own_work
from planner.virtual.tensor import SimTensor

if TYPE_CHECKING:
    from planner.virtual.copies import Copy


class Owner(Protocol):
    """The device that a piece is from."""

    def touched(self, piece: SimPiece, elem: torch.Tensor, op: str) -> None:
        """The compute lane uses the bytes of ``elem``, which lie in ``piece``."""


class SimPiece:
    """``nbytes`` for the component ``label``. ``lasting``: what is bound over it is valid again when it comes
    back. ``pending``: the copies to it that nobody has waited for."""

    def __init__(self, device: Owner, nbytes: int, label: str, *, lasting: bool) -> None:
        self._device = device
        self.lasting = lasting
        self.nbytes = nbytes
        self.label = label
        self.freed = False
        self.block = Block(nbytes, self)
        self.pending: list[Copy] = []
        self.uses: dict[tuple[int, int], int] = {}
        """When the compute lane last used each range of bytes."""
        # the memory goes when the piece is freed and nothing bound from it is left
        self.memory: torch.Tensor | None = fresh(nbytes)
        self.regions: dict[Region, Block] = {}
        """What the tensors over each region share, and the piece is the owner of."""
        self._tensors: dict[int, ref[SimTensor]] = {}

    def touch(self, elem: torch.Tensor, op: str) -> None:
        """An operation uses the bytes of ``elem``."""
        self._device.touched(self, elem, op)

    def hold(self, tensor: SimTensor) -> None:
        """``tensor`` lies over its bytes from now on, until it is gone."""
        key, tensors = id(tensor), self._tensors
        tensors[key] = ref(tensor, lambda gone: tensors.pop(key) if tensors.get(key) is gone else None)

    def block_of(self, region: Region) -> Block:
        """What tensors over a region share; its bytes are counted by the piece's own."""
        if region not in self.regions:
            self.regions[region] = Block(0, self, counted=False)
        return self.regions[region]

    def over(self, start: int, stop: int) -> Iterator[SimTensor]:
        """The living tensors that have any of these bytes."""
        for held in tuple(self._tensors.values()):
            tensor = held()
            if tensor is not None and tensor.block.owner is self:
                first, last = span(tensor.elem)
                if first < stop and start < last:
                    yield tensor

    def foreign(self, start: int, stop: int, ours: Collection[torch.Tensor]) -> Iterator[SimTensor]:
        """Those that are none of ``ours``, and of ``ours`` those that autograd holds too."""
        known = {id(tensor) for tensor in ours}
        for tensor in self.over(start, stop):
            if id(tensor) not in known or tensor._use_count() > 1:  # type: ignore[attr-defined]  # not in the stub
                yield tensor

    def awaits(self, elem: torch.Tensor) -> bool:
        """Whether bytes of ``elem`` are on their way, or gone."""
        start, stop = span(elem)
        return self.freed or any(start < copy.stop and copy.start < stop for copy in self.pending)

    def used(self, start: int, stop: int) -> int:
        """When the compute lane last used any of these bytes."""
        return max((at for (a, b), at in self.uses.items() if a < stop and start < b), default=0)

    def poison(self, start: int = 0, stop: int | None = None) -> None:
        """NaN in every floating-point dtype."""
        if self.memory is not None:
            with own_work(), torch.no_grad():
                self.memory[start:stop].fill_(0xFF)


def fresh(nbytes: int) -> torch.Tensor:
    """Memory that nobody wrote."""
    with torch.inference_mode(False), own_work():
        return torch.full((nbytes,), 0xFF, dtype=torch.uint8, device="cpu")


def span(elem: torch.Tensor) -> tuple[int, int]:
    """Where its bytes begin and end in its storage."""
    start = int(elem.storage_offset()) * elem.element_size()
    return start, start + extent(elem)


def extent(tensor: torch.Tensor) -> int:
    """Bytes from the first element to the end of the last, for any strides."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
