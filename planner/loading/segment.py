"""A pipeline in shared memory: laid out there by one process, and put together from it by any other.

A head, then each component's weights from a page on: small ones in the order in which a device is given
them, then large ones, each at a multiple of ALIGNMENT, so that a session has nothing to pack. Buffers come
last: they may be written, so each process that puts the pipeline together has them in memory of its own.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from planner.device.mapped import copy_out
from planner.device.shared import Shared, made, shared_at
from planner.forms.wrapped import parts, plain
from planner.host.layout import of_host
from planner.host.regions import Region, regions_of
from planner.loading.apart import Apart, Numbered, put_together
from planner.session.checks import modules_of
from planner.target.extents import is_packed
from planner.target.model import device_bytes

HEAD = 8
"""Bytes of the length of what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """``offset``: in elements, from the start of its region."""

    number: int
    kind: type[torch.Tensor]
    requires_grad: bool
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A region's bytes from ``start`` on, counted from the first weight. ``own``: each process copies it."""

    start: int
    nbytes: int
    own: bool
    tensors: tuple[_Tensor, ...]


def share(apart: Apart, token: str) -> Shared:
    """The pipeline in shared memory that is called ``token``.

    Its own tensors are given up, one component after another: it cannot be used any more. Raises NotShared
    with the pipeline as it was, and OSError where a mapped file became shorter.
    """
    regions = regions_of(one.tensor for one in apart.tensors)
    placed = [*_placed(apart.tensors, regions)]
    head = pickle.dumps((apart.data, [place for _, place in placed]))
    start = _pages(HEAD + len(head))
    end = max((place.start + place.nbytes for _, place in placed), default=0)

    def fill(whole: torch.Tensor) -> None:
        said = len(head).to_bytes(HEAD, "little") + head
        whole[: len(said)] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
        for component in dict.fromkeys(one.component for one in apart.tensors):
            own = {id(regions[id(t.tensor)]) for t in apart.tensors if t.component == component}
            mine = [(region, place) for region, place in placed if id(region) in own]
            copy_out(
                (region.bytes(), whole[at : at + region.nbytes])
                for region, place in mine
                for at in [start + place.start]
            )
            for _, place in mine:
                _give_up(apart.tensors[t.number].tensor for t in place.tensors)

    with torch.inference_mode(False), torch.no_grad():
        return made(token, start + max(end, 1), fill)


def from_shared(pages: Shared) -> Any:
    """The pipeline, its parameters in ``pages``, whatever is written in it in memory of its own."""
    length = int.from_bytes(pages[:HEAD], "little")
    data, placed = pickle.loads(pages[HEAD : HEAD + length])  # of one of our own processes
    start = _pages(HEAD + length)
    tensors: dict[int, torch.Tensor] = {}
    with torch.inference_mode(False), torch.no_grad():
        for place in placed:
            memory = pages.part(start + place.start, place.nbytes)
            storage = (memory.clone() if place.own else memory).untyped_storage()
            for one in place.tensors:
                tensors[one.number] = _tensor(one, storage)
    return put_together(data, [tensors[number] for number in range(len(tensors))])


def own_bytes(pipe: Any) -> dict[str, int]:
    """Of each component, the bytes of weights that do not lie in shared memory."""
    found = {}
    for name, module in modules_of(pipe).items():
        tensors = (*module.parameters(), *module.buffers())
        held = {id(part): part for tensor in tensors for part in parts(of_host(tensor)) or (tensor,)}
        found[name] = sum(part.nbytes for part in held.values() if shared_at(_address(part)) is None)
    return found


def _address(tensor: torch.Tensor) -> int:
    return tensor.data_ptr() if plain(tensor) else 0


def _placed(tensors: Sequence[Numbered], regions: dict[int, Region]) -> Iterator[tuple[Region, _Place]]:
    inside: dict[int, list[int]] = {}
    for number, one in enumerate(tensors):
        inside.setdefault(id(regions[id(one.tensor)]), []).append(number)
    own = {key for key, numbers in inside.items() if any(tensors[number].state for number in numbers)}
    at = 0

    def place(found: Sequence[Region]) -> Iterator[tuple[Region, _Place]]:
        nonlocal at
        for region in found:
            mine = tuple(_said(number, tensors[number].tensor, region) for number in inside[id(region)])
            yield region, _Place(at, region.nbytes, id(region) in own, mine)
            at += device_bytes([region.nbytes])

    first = {id(region): region for one in tensors for region in [regions[id(one.tensor)]]}
    components: dict[str, list[Region]] = {}
    for key, region in first.items():
        if key not in own:
            components.setdefault(tensors[inside[key][0]].component, []).append(region)
    for found in components.values():
        yield from place([region for region in found if is_packed(region.nbytes)])
        yield from place([region for region in found if not is_packed(region.nbytes)])
        at = _pages(at)
    yield from place([region for key, region in first.items() if key in own])


def _said(number: int, tensor: torch.Tensor, region: Region) -> _Tensor:
    return _Tensor(
        number=number,
        kind=type(tensor),
        requires_grad=tensor.requires_grad,
        dtype=tensor.dtype,
        shape=tuple(tensor.shape),
        stride=tensor.stride(),
        offset=(tensor.data_ptr() - region.address) // tensor.element_size(),
    )


def _tensor(said: _Tensor, storage: torch.UntypedStorage) -> torch.Tensor:
    made = torch.empty(0, dtype=said.dtype).set_(storage, said.offset, said.shape, said.stride)
    if issubclass(said.kind, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad=said.requires_grad)
    return torch.nn.Buffer(made) if said.kind is torch.nn.Buffer else made


def _give_up(tensors: Iterator[torch.Tensor]) -> None:
    for tensor in tensors:
        tensor.data = torch.empty(0, dtype=tensor.dtype)


def _pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
