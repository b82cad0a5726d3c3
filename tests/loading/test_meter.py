"""What a call took of its device: weights and what torch allocates beside them, each once."""

from __future__ import annotations

import torch

from planner.loading.meter import Meter
from planner.virtual.device import SimDevice


def test_every_byte_counts_once_and_each_stretch_for_itself() -> None:
    device = SimDevice()
    before = device.reserved()
    meter = Meter(device)
    meter.start()
    piece = device.alloc(1 << 20, "unet")
    kept = torch.empty(1 << 18, dtype=torch.uint8, device="sim:0")
    meter.observe("use", "unet")
    device.free(piece)
    more = torch.empty(1 << 19, dtype=torch.uint8, device="sim:0")
    meter.stop()
    assert meter.allocated == before + (1 << 20) + kept.numel()
    assert more.numel() < 1 << 20
