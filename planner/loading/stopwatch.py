"""Seconds of what runs inside a ``with``, the device's work included."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class Stopwatch:
    """``seconds``: from entering to leaving, 0 until then; by the clock that only goes on."""

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: whose queued work is waited for at the end."""
        self.seconds = 0.0
        self._device = device
        self._begin = 0.0

    def __enter__(self) -> Stopwatch:
        self._begin = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device is not None and kind is None:
            torch.get_device_module(self._device).synchronize(self._device)
        self.seconds = time.perf_counter() - self._begin
