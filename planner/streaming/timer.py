"""For how long each block of a component computes."""

from __future__ import annotations

from typing import Any

from planner.device.protocol import Device


class Timer:
    """How long each block computes, where the device can tell: the time between two marks on its lane."""

    def __init__(self, device: Device) -> None:
        """Stands still until ``running``."""
        self._device = device
        self._begun: tuple[int, Any] | None = None
        self._marks: list[tuple[int, Any, Any]] = []
        self.running = False

    def start(self, index: int) -> None:
        """Block ``index`` begins: what it waited for is there."""
        if self.running and (mark := self._device.mark()) is not None:
            self._begun = (index, mark)

    def stop(self) -> None:
        """The block that was begun is over."""
        if self._begun is not None:
            self._marks.append((*self._begun, self._device.mark()))
            self._begun = None

    def read(self, *, wait: bool = False) -> dict[int, float]:
        """Seconds by block, of all its turns, once; none before the device has done them, but by waiting."""
        if not self._marks or not (wait or self._device.passed(self._marks[-1][2])):
            return {}
        marks, self._marks = self._marks, []
        seconds = dict.fromkeys((index for index, _, _ in marks), 0.0)
        for index, start, end in marks:
            seconds[index] += self._device.between(start, end)
        return seconds
