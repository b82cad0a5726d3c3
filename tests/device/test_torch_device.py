"""The protocol on a torch device, as far as a CPU shows it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from planner.device import memory
from planner.device.torch_device import RANGES, TorchDevice


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


class Driver:
    """In the place of CUDA's: handles and addresses are numbers, and it remembers who asked for what."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.sizes: dict[int, int] = {}
        self.mapped: dict[int, int] = {}
        self.calls: list[str] = []
        self._next = 1 << 40

    def _number(self) -> int:
        self._next += 1 << 40
        return self._next

    def cuMemAddressReserve(self, address: Any, *_: Any) -> int:
        address._obj.value = self._number()
        return 0

    def cuMemCreate(self, handle: Any, nbytes: Any, *_: Any) -> int:
        if nbytes.value > self.left:
            return 2
        handle._obj.value = self._number()
        self.sizes[handle._obj.value] = nbytes.value
        self.left -= nbytes.value
        self.calls.append(f"create {nbytes.value >> 20}")
        return 0

    def cuMemRelease(self, handle: Any) -> int:
        self.left += self.sizes.pop(handle.value)
        self.calls.append("release")
        return 0

    def cuMemMap(self, address: Any, nbytes: Any, offset: Any, handle: Any, flags: Any) -> int:
        assert self.sizes[handle.value] == nbytes.value
        self.mapped[address.value] = handle.value
        return 0

    def cuMemSetAccess(self, *_: Any) -> int:
        return 0

    def cuMemUnmap(self, address: Any, nbytes: Any) -> int:
        for start in [a for a in self.mapped if address.value <= a < address.value + nbytes.value]:
            del self.mapped[start]
        return 0

    def cuMemAddressFree(self, *_: Any) -> int:
        self.calls.append("free addresses")
        return 0


MIB = 1 << 20

Cap = Callable[[int], None]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """1 GiB of it."""
    made = Driver(1024 * MIB)
    monkeypatch.setattr(memory, "_driver", lambda: made)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 1024 * MIB))
    monkeypatch.setattr(torch, "as_tensor", lambda array, device: torch.empty(0))
    return made


@pytest.fixture
def card(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> TorchDevice:
    """A CPU whose memory comes from a driver."""
    monkeypatch.setattr(memory, "available", lambda _: True)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _: MagicMock())
    return TorchDevice(torch.device("cpu"))


@pytest.fixture
def capped(card: TorchDevice, monkeypatch: pytest.MonkeyPatch) -> Cap:
    """Gives the card a cap in bytes, of which torch's allocator is not told."""

    def cap(nbytes: int) -> None:
        monkeypatch.setattr(card, "_cap", nbytes)
        monkeypatch.setattr(card, "_hold", lambda: None)

    return cap


def test_memory_goes_from_one_component_to_the_next(card: TorchDevice, driver: Driver) -> None:
    first = card.alloc(300 * MIB, "x")
    assert driver.calls == ["create 128", "create 128", "create 44"]
    card.free(first)
    assert (card.own, card.uncounted) == (0, 300 * MIB)
    second = card.alloc(400 * MIB, "y")
    assert driver.calls[3:] == ["create 128", "create 16"]
    assert len(driver.mapped) == 4
    assert card.release_freed()
    assert driver.calls[5:] == ["release"]
    assert card.own == card.uncounted == 400 * MIB
    card.free(second)
    assert card.release_freed()
    assert not card.release_freed()
    assert (driver.left, driver.mapped) == (1024 * MIB, {})


def test_only_as_much_leaves_as_is_asked_for(card: TorchDevice, driver: Driver, capped: Cap) -> None:
    capped(1000 * MIB)
    pieces = [card.alloc(256 * MIB, "x") for _ in range(3)]
    for piece in pieces:
        card.free(piece)
    assert not card.release_freed(232 * MIB)
    assert (len(driver.mapped), driver.left) == (6, 256 * MIB)
    assert card.release_freed(300 * MIB)
    assert (len(driver.mapped), driver.left) == (4, 384 * MIB)
    card.alloc(200 * MIB, "y")  # of what left, and of what is leaving
    assert card.release_freed(700 * MIB)
    assert card.uncounted == 200 * MIB + 100 * MIB - 100 * MIB
    assert card.own == 200 * MIB


def test_nobody_is_waited_for_while_there_is_room(
    card: TorchDevice, driver: Driver, capped: Cap, monkeypatch: pytest.MonkeyPatch
) -> None:
    capped(1000 * MIB)
    stream = MagicMock()
    busy = stream.record_event.return_value
    busy.query.return_value = False
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _: stream)
    card.free(card.alloc(256 * MIB, "x"))
    card.alloc(512 * MIB, "y")
    assert not busy.synchronize.called
    assert card.uncounted == 768 * MIB
    card.alloc(384 * MIB, "z")
    assert busy.synchronize.called
    assert card.uncounted == 896 * MIB


def test_a_little_of_what_left_is_enough_for_another_size(
    card: TorchDevice, driver: Driver, capped: Cap, monkeypatch: pytest.MonkeyPatch
) -> None:
    capped(920 * MIB)
    trimmed = MagicMock()
    monkeypatch.setattr(card, "empty_cache", trimmed)  # the host waits for all that runs
    kept = [card.alloc(600 * MIB, "y")]
    card.free(card.alloc(300 * MIB, "x"))
    kept.append(card.alloc(320 * MIB, "z"))  # of two chunks of the three, and a larger one for the third
    assert driver.calls[-2:] == ["release", "create 64"]
    assert card.own == card.uncounted == 920 * MIB
    assert not trimmed.called


def test_a_piece_comes_back_at_its_addresses(card: TorchDevice, driver: Driver) -> None:
    first, other = card.alloc(200 * MIB, "x"), card.alloc(10 * MIB, "x")
    card.free(first)
    card.free(other)
    card.release_freed()
    assert first.bytes is None
    assert card.alloc(200 * MIB, "y") is not first
    assert card.alloc(10 * MIB, "x") is other
    assert card.alloc(200 * MIB, "x") is first
    assert first.lasting


def test_a_component_keeps_few_ranges(card: TorchDevice, driver: Driver) -> None:
    for size in range(1, RANGES + 12):
        card.free(card.alloc(size * 2 * MIB, "x"))
    card.release_freed()
    gc.collect()
    assert driver.calls.count("free addresses") == 11


def test_what_does_not_fit_takes_nothing(card: TorchDevice, driver: Driver) -> None:
    first = card.alloc(600 * MIB, "x")
    with pytest.raises(torch.OutOfMemoryError):
        card.alloc(500 * MIB, "y")
    assert card.own == 600 * MIB
    assert card.release_freed()
    assert driver.left == 424 * MIB
    card.free(first)
    card.alloc(1000 * MIB, "y")


def test_a_cap_counts_what_nobody_has_taken_yet(card: TorchDevice, driver: Driver, capped: Cap) -> None:
    capped(500 * MIB)
    card.free(card.alloc(400 * MIB, "x"))
    assert card.uncounted == 400 * MIB
    card.alloc(130 * MIB, "y")
    assert card.uncounted == 402 * MIB
    with pytest.raises(torch.OutOfMemoryError, match="pass the budget"):
        card.alloc(400 * MIB, "x")
