"""The protocol on a torch device, as far as a CPU shows it."""

from __future__ import annotations

from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
import torch

from planner.device.torch_device import TorchDevice


def test_what_is_copied_in_is_not_a_change_of_what_is_bound() -> None:
    device = TorchDevice(torch.device("cpu"))
    piece = device.alloc(1024, "x")
    first, second = torch.arange(8.0), torch.ones(4, 4).t()
    bound = [device.bind(piece, 0, first), device.bind(piece, 512, second)]
    before = [tensor._version for tensor in bound]
    device.copy(piece, 0, first.view(torch.uint8))
    device.copy(piece, 512, torch.ones(16).view(torch.uint8))
    assert [tensor._version for tensor in bound] == before
    assert torch.equal(bound[0], first)
    assert torch.equal(bound[1], second)
    assert bound[1].stride() == second.stride()
    bound[0].add_(1)
    assert [tensor._version > was for tensor, was in zip(bound, before, strict=True)] == [True, False]
    assert device.own == 1024
    device.free(piece)
    assert device.own == 0


class Memory:
    """In the place of the driver's: freed at once, and remembered."""

    freed: ClassVar[list[int]] = []
    left: ClassVar[int] = 1 << 30

    def __init__(self, nbytes: int, device: torch.device) -> None:
        if nbytes > Memory.left:
            raise torch.OutOfMemoryError("none left")
        self.nbytes = nbytes
        Memory.left -= nbytes

    def free(self) -> None:
        Memory.freed.append(self.nbytes)
        Memory.left += self.nbytes


class Copies:
    """A copy stream that is busy, or done."""

    busy = True

    def record_event(self) -> Copies:
        return self

    def query(self) -> bool:
        return not self.busy


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> TorchDevice:
    """A CPU whose memory comes from a driver and is copied to by a stream."""
    device: Any = TorchDevice(torch.device("cpu"))
    device._exact, device._copies = True, Copies()
    monkeypatch.setattr("planner.device.memory.Raw", Memory)
    monkeypatch.setattr(torch, "as_tensor", lambda raw, device: torch.empty(0))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _: MagicMock())
    Memory.freed, Memory.left = [], 1 << 30
    return device


def test_nobody_waits_for_copies_on_their_way_until_the_memory_is_wanted(card: TorchDevice) -> None:
    first, second = card.alloc(400 << 20, "x"), card.alloc(400 << 20, "y")
    card.free(first)
    assert (Memory.freed, card.own) == ([], 800 << 20)
    assert not card.tidy(now=False)
    third = card.alloc(300 << 20, "z")  # more than is left
    assert (Memory.freed, card.own) == ([400 << 20], 700 << 20)
    card.free(second)
    Copies.busy = False
    assert card.tidy(now=False)
    card.free(third)
    assert card.own == 0
    Copies.busy = True


def test_a_cap_counts_what_was_not_given_back_yet(card: TorchDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_cap", 500 << 20)
    monkeypatch.setattr(card, "_hold", lambda: None)
    card.free(card.alloc(400 << 20, "x"))
    assert card.own == 400 << 20
    card.alloc(200 << 20, "y")
    assert (Memory.freed, card.own) == ([400 << 20], 200 << 20)
