"""Copies of one component's blocks to a device: queued, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from planner.device.protocol import Device
from planner.host.layout import Block
from planner.streaming.tensors import Place


class Copies:
    """Invariants:
    - the block that was queued last for a place has there, once it is waited for, the bytes of the host's
      tensors at the versions in ``_versions``;
    - a block is in ``_events`` until its copy was waited for, but while ``_unrecorded``: then copies may be
      on their way of which no event tells."""

    def __init__(self, blocks: Sequence[Block], device: Device, moved: Callable[[int], None]) -> None:
        """None yet. ``moved`` is told of every block's bytes."""
        self._blocks = blocks
        self._device = device
        self._moved = moved
        self._events: dict[int, Any] = {}
        self._unrecorded = False
        self._versions: dict[int, list[int]] = {}
        self._read: Any = None
        """An event after whatever may still read what the next block overwrites; None: nothing does."""

    def queue(self, index: int, place: Place) -> None:
        """The bytes of a block, to where nothing is read any more."""
        block = self._blocks[index]
        self._versions[index] = block.versions()
        self._unrecorded = True
        with torch.inference_mode(False), torch.no_grad():
            for at, source in block.copies:
                self._device.copy(place.piece, place.offset + at - block.base, source)
        self._events[index] = self._device.record("copy")
        self._unrecorded = False
        self._moved(block.nbytes)

    def queue_over(self, index: int, place: Place) -> None:
        """The same, to where blocks lay that have run."""
        if self._read is not None:
            self._device.wait("copy", self._read)
            self._read = None
        self.queue(index, place)

    def ran(self) -> None:
        """What is queued to compute may read what the next block overwrites."""
        self._read = self._device.record("compute")

    def are_overwritten(self, indexes: Iterable[int]) -> None:
        """The next copy goes over these blocks, and comes after theirs."""
        self._unrecorded = True
        for index in indexes:
            self._events.pop(index, None)

    def arrive(self, index: int) -> None:
        """Computing goes on once a block is there."""
        if index in self._events:
            self._device.wait("compute", self._events[index])
            self._events.pop(index, None)

    def arrive_all(self) -> None:
        """Computing goes on once nothing is on its way. Only these copies are waited for: the next component
        may have some on the way already."""
        if self._unrecorded:
            self._device.wait("compute", self._device.record("copy"))
            self._unrecorded = False
        for index in [*self._events]:
            self.arrive(index)

    def outdated(self, index: int) -> bool:
        """Whether a block that is there has other bytes than the host: its tensors were written since."""
        return index in self._versions and self._versions[index] != self._blocks[index].versions()

    def start_anew(self) -> None:
        """What comes next lies in other memory, which nothing reads."""
        self._read = None
