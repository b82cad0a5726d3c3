"""What loading and applying do on the host: weights read from files, small ones packed. By the code that does
it in a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from planner.device.mapped import copy_out
from planner.device.pinned import Pins
from planner.host.packing import held_of, pack
from planner.host.regions import Slot, fresh_regions
from planner.target.extents import PACKED

BYTES = 1 << 30
"""That are read, and packed."""
SAMPLES = 3


def host(device: torch.device, nbytes: int = BYTES) -> dict[str, float] | None:
    """``read`` and ``pack`` of a card's ``host``: bytes a second, the medians of a few times; None where so
    many bytes cannot be written to a temporary file.

    What is read was written right before, so that the page cache has it: no disk is measured. What is packed
    is registered meanwhile, where the device is CUDA's.
    """
    part = nbytes // 4
    try:  # the difference: what a read begins with is no matter of bytes
        less, more = (median(_reads(n)) for n in (part, nbytes))
    except OSError:
        return None
    read = (nbytes - part) / (more - less) if more > less else nbytes / more
    return {"read": read, "pack": nbytes / median(_packs(device, nbytes))}


def _reads(nbytes: int) -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights"
        torch.ones(nbytes, dtype=torch.uint8).numpy().tofile(file)
        for _ in range(SAMPLES):
            mapped = torch.from_file(
                str(file), size=nbytes, dtype=torch.uint8
            )  # as from_pretrained leaves it
            start = time.perf_counter()
            _, (region,) = fresh_regions([nbytes])
            copy_out([(mapped, region.bytes())])
            yield time.perf_counter() - start
            del mapped, region


def _packs(device: torch.device, nbytes: int) -> Iterator[float]:
    size = min(PACKED // 4, nbytes)
    for _ in range(SAMPLES):
        weights = [torch.ones(size, dtype=torch.uint8) for _ in range(nbytes // size)]
        held = held_of([(0, Slot({}, str(n), weight, (weight,))) for n, weight in enumerate(weights)])
        pins = Pins(device)
        start = time.perf_counter()
        pack(held, pins, pins)
        yield time.perf_counter() - start
        pins.close()
