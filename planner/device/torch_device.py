"""The ``Device`` protocol on a torch accelerator: two streams where there are streams, else plain calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from planner.device import memory
from planner.device.protocol import Lane


@dataclass(slots=True)
class TorchPiece:
    """One allocation: ``bytes`` is the tensor over it, ``raw`` the driver's memory if it came from there."""

    nbytes: int
    bytes: torch.Tensor | None
    raw: memory.Raw | None


class TorchDevice:
    """CUDA, XPU and MPS through torch's device-generic calls. ``own``: bytes taken from the driver now.

    Pieces come from the driver on CUDA, elsewhere from torch's allocator. The copy stream waits for the
    caller's current stream before it writes.
    """

    def __init__(self, name: torch.device) -> None:
        self.name = name
        self._module = torch.get_device_module(name)
        self._copies = self._stream()
        self._exact = name.type == "cuda" and memory.available()
        self.own = 0

    def _stream(self) -> Any:
        """A stream for copies; None where the backend has no streams (MPS): then copies are in order."""
        if not hasattr(self._module, "Stream") or not hasattr(self._module, "current_stream"):
            return None
        return torch.Stream(self.name)

    def alloc(self, nbytes: int, label: str) -> TorchPiece:
        """At least one byte, so that an empty component has a place."""
        size = max(nbytes, 1)
        if not self._exact:
            return TorchPiece(nbytes, torch.empty(size, dtype=torch.uint8, device=self.name), None)
        raw = memory.Raw(size, self.name)
        self.own += size
        return TorchPiece(nbytes, torch.as_tensor(raw, device=self.name), raw)

    def free(self, piece: TorchPiece) -> None:
        """Back to the driver, once the caller's stream is done with it; elsewhere to torch's allocator, with
        the last reference and in the order of the stream."""
        piece.bytes = None
        if piece.raw is not None:
            torch.accelerator.current_stream(self.name).synchronize()
            piece.raw.free()
            piece.raw = None
            self.own -= max(piece.nbytes, 1)

    def copy(self, piece: TorchPiece, offset: int, source: torch.Tensor) -> None:
        """Queue on the copy stream. Pageable memory makes the host wait, which is torch's doing."""
        assert piece.bytes is not None
        target = piece.bytes[offset : offset + source.numel()]
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

    def bind(self, piece: TorchPiece, offset: int, like: torch.Tensor) -> torch.Tensor:
        """A typed view over the piece."""
        assert piece.bytes is not None
        span = _span(like) * like.element_size()
        typed = piece.bytes[offset : offset + span].view(like.dtype)
        return typed.as_strided(like.shape, like.stride())

    def reserved(self) -> int:
        """Bytes that torch's allocator holds and our own; ours alone where the backend does not say."""
        if self.name.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        count = getattr(self._module, "memory_reserved", None)
        return self.own + (int(count(self.name)) if count else 0)

    def _lane(self, lane: Lane) -> Any:
        if self._copies is None:
            return None
        return self._copies if lane == "copy" else torch.accelerator.current_stream(self.name)


def _span(like: torch.Tensor) -> int:
    """Elements between the first and the last of ``like``, both included."""
    if like.numel() == 0:
        return 0
    return 1 + sum((n - 1) * stride for n, stride in zip(like.shape, like.stride(), strict=True))
