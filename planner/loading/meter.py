"""The most memory that a call had on its device: torch's allocator and the weights beside it."""

from __future__ import annotations

from typing import Any

import torch


class Meter:
    """Counts from ``start`` to ``stop``; an observer of a session, since weights change between uses.

    ``allocated`` and ``reserved`` are bytes, None where the backend does not count them. Weights that are
    taken from the driver are in no counter of torch's: each stretch between two changes of them has its
    own peak, and the largest sum counts.
    """

    def __init__(self, device: Any) -> None:
        """``device``: a session's device."""
        self._device = device
        self._module: Any = torch.get_device_module(device.name)
        self._counts = hasattr(self._module, "max_memory_allocated")
        self._own = 0
        self.allocated: int | None = None
        self.reserved: int | None = None
        self.stretch: tuple[int, int, int] | None = None
        """Of the last stretch, bytes: those at its start that torch does not count, the most allocated and
        the most reserved with them. None before the first, and where the backend does not count."""

    def start(self) -> None:
        """The call begins."""
        if self._counts:
            self._own = getattr(self._device, "uncounted", 0)
            self._module.reset_peak_memory_stats(self._device.name)

    def observe(self, what: str, name: str) -> None:
        """Weights may have come and gone since."""
        self._stretch()

    def stop(self) -> None:
        """The call is over."""
        self._stretch()

    def _stretch(self) -> None:
        if not self._counts:
            return
        name = self._device.name
        allocated = reserved = self._own + int(self._module.max_memory_allocated(name))
        self.allocated = max(self.allocated or 0, allocated)
        if hasattr(self._module, "max_memory_reserved"):
            reserved = self._own + int(self._module.max_memory_reserved(name))
            self.reserved = max(self.reserved or 0, reserved)
        self.stretch = (self._own, allocated, reserved)
        self._module.reset_peak_memory_stats(name)
        self._own = getattr(self._device, "uncounted", 0)
