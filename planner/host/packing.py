"""Where a component's regions lie: small ones packed on the host, all of them in a row on a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from mmap import PAGESIZE

import torch

from planner.device.mapped import copy_out
from planner.device.pinned import Pins, file_backed
from planner.device.shared import shared_at
from planner.host.regions import Region, Slot, fresh_regions, in_parts, lay_over, regions_of, repointable
from planner.target.extents import is_packed
from planner.target.model import device_bytes


@dataclass(slots=True)
class Held:
    """A region, the group that brings it, and the tensors in it.

    ``packed`` is its offset in the ``arena``, memory in which regions lie one after the other; None where it
    lies in none. ``place``: its offset on the device.
    """

    region: Region
    group: int
    tensors: list[torch.Tensor]
    arena: torch.Tensor | None = None
    packed: int | None = None
    place: int = 0


def held_of(found: list[tuple[int, Slot]]) -> list[Held]:
    """Every region once, with the first group that has a tensor in it, in the order of the groups. ``found``:
    the tensors, with the numbers of their groups."""
    regions = regions_of(part for _, slot in found for part in slot.parts or ())
    first: dict[int, Held] = {}
    tensors: set[int] = set()
    for number, slot in found:
        for part in slot.parts or ():
            region = regions.get(id(part))
            if region is not None and id(part) not in tensors:
                tensors.add(id(part))
                first.setdefault(id(region), Held(region, number, [])).tensors.append(part)
    return list(first.values())


def pack(held: list[Held], pins: Pins, owner: object) -> torch.Tensor | None:
    """Moves small and file-backed regions into one allocation of whole pages, each at a multiple of
    ALIGNMENT, which is registered while it is filled; small ones that lie in shared memory are packed there.
    Raises OSError for a mapped file that became shorter, with nothing moved."""
    mapped = file_backed(h.region.address for h in held)
    chosen = [h for h in held if is_packed(h.region.nbytes) or h.region.address in mapped]
    chosen = [h for h in chosen if repointable(h.tensors, h.region)]
    wholes: dict[int, torch.Tensor] = {}
    for h in chosen:
        if (pages := shared_at(h.region.address)) is not None:
            h.arena = wholes.setdefault(pages.address, pages.whole())
            h.packed = h.region.address - pages.address
    chosen = [h for h in chosen if h.packed is None]
    if not chosen:
        return None
    with torch.inference_mode(False), torch.no_grad(), ThreadPoolExecutor(1) as beside:
        arena, regions = fresh_regions([h.region.nbytes for h in chosen])
        extent = [(arena.data_ptr(), -(-arena.numel() // PAGESIZE) * PAGESIZE)]  # its last page is its own
        registered = beside.submit(pins.add, extent, [arena], owner=owner)
        moves = list(zip(chosen, regions, strict=True))
        copy_out((h.region.bytes(), region.bytes()) for h, region in moves)
        registered.result()
        for h, region in moves:
            lay_over(h.tensors, h.region, region)
            h.region, h.arena, h.packed = region, arena, region.address - arena.data_ptr()
    return arena


def extents(regions: Iterable[Region]) -> list[tuple[int, int]]:
    """Address and bytes of what is to be registered: regions as they are, and of shared memory all pages from
    the first region in it to the last. Nobody writes there, in no process."""
    made, shared = [], dict[int, list[int]]()
    for region in regions:
        if (pages := shared_at(region.address)) is None:
            made.append((region.address, region.nbytes))
        else:
            shared.setdefault(pages.address, []).extend((region.address, region.address + region.nbytes))
    for found in shared.values():
        start, end = min(found) // PAGESIZE * PAGESIZE, -(-max(found) // PAGESIZE) * PAGESIZE
        made.append((start, end - start))
    return made


def placed(held: list[Held]) -> int:
    """Sets device offsets, and returns the bytes of all: group by group, the packed ones of a group first, in
    their arena's order."""
    at = 0
    for h in sorted(held, key=_order):
        h.place = at
        at += device_bytes([h.region.nbytes])
    return at


def _order(h: Held) -> tuple[int, bool, int, int]:
    return h.group, h.packed is None, 0 if h.arena is None else h.arena.data_ptr(), h.packed or 0


def copies(held: list[Held], pins: Pins) -> Iterable[tuple[int, torch.Tensor]]:
    """A group's copies to the device, none across two registered pieces. What is packed one right after
    the other cross as one, padding included."""
    for place, source in (*_runs(held), *((h.place, h.region.bytes()) for h in held if h.packed is None)):
        for at, part in in_parts(source, pins.cuts):
            yield place + at, part


def _runs(held: list[Held]) -> Iterator[tuple[int, torch.Tensor]]:
    """Device offset and host memory of packed regions that lie alike on both."""
    packed = sorted((h for h in held if h.packed is not None), key=_order)
    for _, run in groupby(packed, key=lambda h: (id(h.arena), (h.packed or 0) - h.place)):
        first, *others = run
        last = others[-1] if others else first
        assert first.arena is not None
        yield first.place, first.arena[first.packed : (last.packed or 0) + last.region.nbytes]
