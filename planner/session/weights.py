"""A module's tensors and the host memory that they lie in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from planner.target.extents import extent, merged

Table = dict[str, torch.Tensor | None]


@dataclass(slots=True)
class Slot:
    """One entry of a module's ``_parameters`` or ``_buffers``."""

    table: Table
    key: str
    host: torch.Tensor


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


def slots_of(module: torch.nn.Module) -> list[Slot]:
    """Every tensor of ``module`` and what is in it; a tied tensor appears once for each owner."""
    return own_slots(module.modules())


def own_slots(owners: Iterable[torch.nn.Module]) -> list[Slot]:
    """The tensors that these modules own themselves."""
    found = []
    seen: set[int] = set()
    for owner in owners:
        for table in (owner._parameters, owner._buffers):
            if id(table) not in seen:
                seen.add(id(table))
                found += [Slot(table, key, tensor) for key, tensor in table.items() if tensor is not None]  # type: ignore[arg-type]
    return found


def movable(tensor: torch.Tensor) -> bool:
    """True for a plain strided tensor on the host, whose bytes are all there is to it.

    Tensor subclasses (torchao, quanto, GGUF, bitsandbytes) carry state beside their bytes.
    """
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.is_conj() is False
    )


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
