"""Copies between host and device, and what registering host memory takes."""

from __future__ import annotations

import time
from typing import Any

import torch

from planner.device.pinned import Pins, fresh_pages
from planner.loading.measure.timing import seconds_of, wait

SIZES = tuple(1 << n for n in (16, 18, 20, 22, 24, 26, 28))
"""Bytes of one copy, 64 KiB to 256 MiB."""
PAGEABLE = (1 << 16, 1 << 20, 1 << 24, 1 << 28)
REGISTERED = 4 << 30
"""Bytes that are registered at once, to time it: pieces of 512 MiB, by several threads, as a run does it."""

Rows = list[list[float]]


def link(device: torch.device, *, most: int = SIZES[-1]) -> dict[str, dict[str, Rows]]:
    """``to_device`` and ``to_host``, each ``pinned`` and ``pageable``: rows of bytes and bytes a second.
    ``most``: bytes of the largest copy."""
    there = torch.empty(most, dtype=torch.uint8, device=device)
    pageable = torch.ones(most, dtype=torch.uint8)
    pinned = pageable.pin_memory() if device.type == "cuda" else pageable
    return {
        way: {
            kind: [[size, size / _copy(host, there, size, way, device)] for size in sizes if size <= most]
            for kind, host, sizes in (("pinned", pinned, SIZES), ("pageable", pageable, PAGEABLE))
        }
        for way in ("to_device", "to_host")
    }


def register(device: torch.device, nbytes: int = REGISTERED) -> tuple[float, int]:
    """Bytes of host memory registered a second, and device bytes that a GiB of it takes, as the driver
    shows it.

    The memory was written before: first touches are no part of registering. Not of CUDA: how fast its pages
    are looked at.
    """
    pages = fresh_pages(nbytes)
    memory = torch.frombuffer(pages, dtype=torch.uint8)
    memory.fill_(1)
    pins = Pins(device)
    before = _free(device)
    start = time.perf_counter()
    if device.type == "cuda":
        pins.add([(memory.data_ptr(), nbytes)], [memory], owner=pins)
    else:
        memory[:: 1 << 12].sum()
    seconds = time.perf_counter() - start
    took = before - _free(device)
    pins.close()
    return nbytes / seconds, max(0, took * (1 << 30) // nbytes)


def _copy(host: torch.Tensor, there: torch.Tensor, size: int, way: str, device: torch.device) -> float:
    a, b = host[:size], there[:size]

    def work() -> Any:
        return b.copy_(a, non_blocking=True) if way == "to_device" else a.copy_(b, non_blocking=True)

    found = seconds_of(work, device)
    wait(device)
    return found


def _free(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
