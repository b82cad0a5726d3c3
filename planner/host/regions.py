"""A module's tensors and the host memory that they lie in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from planner.device.pinned import fresh_pages
from planner.target.extents import extent, merged
from planner.target.model import device_bytes
from planner.target.tables import tensors_of

Table = dict[str, torch.Tensor | None]


@dataclass(slots=True)
class Slot:
    """One entry of a module's tables (``planner.target.tables``), and the plain tensors that its tensor is
    made of; None for one that only its own class can move."""

    table: Table
    key: str
    host: torch.Tensor
    parts: tuple[torch.Tensor, ...] | None


def entries_of(module: torch.nn.Module) -> Iterator[tuple[Table, str, torch.Tensor]]:
    """Every tensor of ``module`` and of the modules in it, with its table and key."""
    for part in module.modules():
        yield from tensors_of(part)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Bytes ``start`` to ``end`` of one host storage: one tensor's, or those of tensors that overlap."""

    storage: torch.UntypedStorage
    start: int
    end: int

    @property
    def address(self) -> int:
        """Of the first byte."""
        return self.storage.data_ptr() + self.start

    @property
    def nbytes(self) -> int:
        """From the first byte to the last."""
        return self.end - self.start

    def bytes(self) -> torch.Tensor:
        """The memory as a flat uint8 tensor, without a copy."""
        return torch.empty(0, dtype=torch.uint8).set_(self.storage, self.start, (self.nbytes,), (1,))


Cuts = Callable[[int, int], Iterable[int]]
"""For an address and a number of bytes, the lengths of the parts in which they can be copied."""


def in_parts(source: torch.Tensor, cuts: Cuts) -> Iterator[tuple[int, torch.Tensor]]:
    """The parts of flat bytes in which they can be copied, each with its offset."""
    at = 0
    for length in cuts(source.data_ptr(), source.numel()):
        yield at, source[at : at + length]
        at += length


def copied(host: torch.Tensor, device: torch.device, cuts: Cuts) -> torch.Tensor:
    """The bytes of a strided ``host`` on ``device``, as one row of elements from its first to its last.

    ``Tensor.to`` is no way for memory that is registered in part, or in pieces: to CUDA a copy that runs from
    one into the other is an invalid argument."""
    start, end = extent(host)
    source = Region(host.untyped_storage(), start, end).bytes()
    made = torch.empty(end - start, dtype=torch.uint8, device=device)
    for at, part in in_parts(source, cuts):
        made[at : at + part.numel()].copy_(part)
    return made.view(host.dtype)


def fresh_regions(sizes: Sequence[int]) -> tuple[torch.Tensor, list[Region]]:
    """Host memory that nobody else lies on, flat uint8, and in it a region for each of ``sizes``.

    Each starts at a multiple of ALIGNMENT and is a storage of its own: what is saved or copied of a tensor
    in it is the tensor, not its neighbours.
    """
    pages = fresh_pages(max(1, device_bytes(sizes)))
    made, at = [], 0
    for size in sizes:
        own = torch.frombuffer(pages, dtype=torch.uint8, count=size, offset=at)
        made.append(Region(own.untyped_storage(), 0, size))
        at += device_bytes([size])
    return torch.frombuffer(pages, dtype=torch.uint8, count=max(1, at)), made


def lay_over(tensors: Iterable[torch.Tensor], old: Region, new: Region) -> None:
    """Sets tensors that lie in ``old`` over the same bytes of ``new``. They stay the same objects."""
    for tensor in tensors:
        made = torch.empty(0, dtype=tensor.dtype)
        offset = (tensor.data_ptr() - old.address) // tensor.element_size()
        tensor.data = made.set_(new.storage, offset, tensor.shape, tensor.stride())


def repointable(tensors: Iterable[torch.Tensor], region: Region) -> bool:
    """Whether they can be set over other memory: no inference tensors, no odd offsets."""
    return not any(t.is_inference() or (t.data_ptr() - region.address) % t.element_size() for t in tensors)


def regions_of(tensors: Iterable[torch.Tensor]) -> dict[int, Region]:
    """The region of each tensor, by its ``id``; an empty tensor has none.

    Overlapping views share a region, so tied and shared tensors cross once and stay tied.
    """
    by_storage: dict[int, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
    found: dict[int, Region] = {}
    for inside in by_storage.values():
        storage = inside[0].untyped_storage()
        regions = [Region(storage, start, end) for start, end in merged(map(extent, inside))]
        starts = [region.start for region in regions]
        for tensor in inside:
            found[id(tensor)] = regions[bisect_right(starts, extent(tensor)[0]) - 1]
    return found
