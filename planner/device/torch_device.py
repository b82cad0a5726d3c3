"""The ``Device`` protocol on a torch accelerator: two streams where there are streams, else plain calls."""

from __future__ import annotations

from typing import Any

import torch

from planner.device.protocol import Lane


class TorchDevice:
    """CUDA, XPU and MPS through torch's device-generic calls.

    Pieces come from torch's caching allocator on the caller's current stream, so memory that weights
    leave is at once free for activations; the copy stream waits for that stream before it writes.
    """

    def __init__(self, name: torch.device) -> None:
        self.name = name
        self._module = torch.get_device_module(name)
        self._copies = self._stream()

    def _stream(self) -> Any:
        """A stream for copies; None where the backend has no streams (MPS): then copies are in order."""
        if not hasattr(self._module, "Stream") or not hasattr(self._module, "current_stream"):
            return None
        return torch.Stream(self.name)

    def alloc(self, nbytes: int, label: str) -> torch.Tensor:
        """A uint8 tensor of ``nbytes``; at least one byte, so that an empty component has a place."""
        return torch.empty(max(nbytes, 1), dtype=torch.uint8, device=self.name)

    def free(self, piece: torch.Tensor) -> None:
        """The memory goes back to the allocator with its last reference, in the order of the compute stream."""

    def copy(self, piece: torch.Tensor, offset: int, source: torch.Tensor) -> None:
        """Queue on the copy stream. Pageable memory makes the host wait, which is torch's doing."""
        target = piece[offset : offset + source.numel()]
        if self._copies is None:
            target.copy_(source)
            return
        with self._copies:
            target.copy_(source, non_blocking=True)

    def record(self, lane: Lane) -> torch.Event | None:
        """An event on the lane's stream."""
        stream = self._lane(lane)
        return None if stream is None else stream.record_event()

    def wait(self, lane: Lane, event: torch.Event | None) -> None:
        """The lane's stream waits; the host does not."""
        stream = self._lane(lane)
        if stream is not None and event is not None:
            stream.wait_event(event)

    def bind(self, piece: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
        """A typed view over the piece."""
        span = _span(like) * like.element_size()
        typed = piece[offset : offset + span].view(like.dtype)
        return typed.as_strided(like.shape, like.stride())

    def reserved(self) -> int:
        """Bytes that torch's allocator holds; 0 where the backend does not say."""
        count = getattr(self._module, "memory_reserved", None) or getattr(
            self._module, "driver_allocated_memory", None
        )
        return int(count(self.name)) if count and self.name.type != "mps" else int(count()) if count else 0

    def _lane(self, lane: Lane) -> Any:
        if self._copies is None:
            return None
        return self._copies if lane == "copy" else torch.accelerator.current_stream(self.name)


def _span(like: torch.Tensor) -> int:
    """Elements between the first and the last of ``like``, both included."""
    if like.numel() == 0:
        return 0
    return 1 + sum((n - 1) * stride for n, stride in zip(like.shape, like.stride(), strict=True))
