"""A component's memory is taken in steps: where one of them finds none, what was there is as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from planner.device.pinned import Pins
from planner.graph.pieces import Pieces
from planner.graph.ring import Ring
from planner.host.layout import HostWeights
from planner.streaming.memory import DeviceMemory
from planner.streaming.tensors import DeviceTensors
from planner.virtual.device import SimDevice
from planner.virtual.operations import Fail, Operations

NONE = torch.OutOfMemoryError("injected")
SIZES = dict.fromkeys(range(4), 2048)


def memory_on(device: SimDevice) -> DeviceMemory:
    """Of four blocks, three of which stay, each in a piece of its own; the last comes and goes."""
    tensors = DeviceTensors(HostWeights(nn.Linear(2, 2), Pins(device.name)), device, stays=False)
    pieces, ring = Pieces(((n, SIZES[n]) for n in range(3)), [2048, 4096]), Ring({3: SIZES[3]}, 2048)
    return DeviceMemory(device, "m", SIZES, pieces, ring, tensors)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_there_is_as_it_was(when: str) -> None:
    device = SimDevice()
    device.operations = Operations()
    memory_on(device).take_rest()
    hits = [(op, nth) for op, n in device.operations.counts.items() for nth in range(1, n + 1)]
    assert {op for op, _ in hits} >= {"alloc", "record", "wait"}
    for taken in range(3):
        for op, nth in hits:
            device = SimDevice()
            memory = memory_on(device)
            for _ in range(taken):
                memory.take_next()
            device.operations = Operations([Fail(op=op, nth=nth, error=NONE, when=when)])  # type: ignore[arg-type]
            try:
                memory.take_rest()
            except torch.OutOfMemoryError:
                assert device.ledger.live == memory.nbytes == sum(memory.pieces.sizes[:taken])
                device.operations = Operations()
                memory.take_rest()
            assert device.ledger.live == memory.nbytes == memory.full
            memory.give_all()
            assert device.ledger.live == 0
