"""The ``Device`` protocol on a torch accelerator: two streams where there are streams, else plain calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from planner.device import memory, segments
from planner.device.protocol import Lane

RANGES = 48
"""Ranges of addresses that a component keeps while it is away: it lies in up to 17 pieces, in few shapes."""


@dataclass(slots=True, eq=False)
class TorchPiece:
    """One allocation: ``bytes`` is the tensor over it, None while it is away; ``range`` its addresses, None
    where torch's allocator gave it.

    What is copied in does not count as a change of what is bound: ``bytes`` is written, and nothing that is
    bound shares its version counter.
    """

    label: str
    nbytes: int
    bytes: torch.Tensor | None
    range: memory.Range | None

    @property
    def lasting(self) -> bool:
        """Where the addresses are its own."""
        return self.range is not None


class TorchDevice:
    """CUDA, XPU and MPS through torch's device-generic calls. ``own``: bytes of the pieces in use.

    Pieces come from the driver on CUDA, elsewhere from torch's allocator. The copy stream waits for the
    caller's current stream before it writes.
    """

    def __init__(self, name: torch.device) -> None:
        self.name = name
        self._module = torch.get_device_module(name)
        self._copies = self._stream()
        self._exact = memory.available(name)
        self._pool = memory.Pool(name)
        query = getattr(self._module, "mem_get_info", None)
        self._total = int(query(name)[1]) if query is not None else None
        self._cap: int | None = None
        self._away: dict[str, list[TorchPiece]] = {}
        """By label, with ranges that have no memory."""
        self._leaving: list[tuple[TorchPiece, torch.Event]] = []
        """Given back, with memory that kernels may still read, until the event."""
        self.own = 0

    def _stream(self) -> Any:
        """A stream for copies; None where the backend has no streams (MPS): then copies are in order."""
        if not hasattr(self._module, "Stream") or not hasattr(self._module, "current_stream"):
            return None
        return torch.Stream(self.name)

    def alloc(self, nbytes: int, label: str) -> TorchPiece:
        """At least one byte, so that an empty component has a place. On CUDA the piece of ``label`` that had
        this size before, if one is away: what was bound over it is valid again."""
        size = max(nbytes, 1)
        if self._exact:
            piece = self._there(label, memory.rounded(size))
        else:
            self._make_room(size)
            piece = TorchPiece(label, size, torch.empty(size, dtype=torch.uint8, device=self.name), None)
        self.own += piece.nbytes
        self._hold()
        return piece

    def free(self, piece: TorchPiece) -> None:
        """Its memory is the next one's, or the driver's by ``tidy``. Elsewhere than on CUDA it is torch's
        with the last reference, in the order of the stream."""
        piece.bytes = None
        self.own -= piece.nbytes
        if piece.range is not None:
            self._leaving.append((piece, torch.accelerator.current_stream(self.name).record_event()))

    def tidy(self, beside: int | None = None) -> bool:
        """The host waits for whoever ran on what leaves, and for no copy."""
        need = None
        if beside is not None and self._cap is not None:
            need = max(0, self._pool.nbytes + beside - self._cap)
        gone = 0
        while need is None or gone < need:
            # What has left goes before anybody is waited for.
            gone += self._pool.drain(None if need is None else need - gone)
            if not self._leaving or (need is not None and gone >= need):
                break
            self._lift_first()
        if gone:
            self._hold()
        return bool(gone)

    def _lift_first(self) -> None:
        """What leaves first has left."""
        piece, event = self._leaving.pop(0)
        event.synchronize()
        assert piece.range is not None
        self._pool.give(piece.range.lift())
        self._away.setdefault(piece.label, []).append(piece)

    def _there(self, label: str, size: int) -> TorchPiece:
        """A piece with memory: the one that ``label`` had, if it is away."""
        while self._leaving and self._leaving[0][1].query() and self._pool.lacks(size):
            self._lift_first()
        self._make_room(size)
        try:
            chunks = self._pool.take(size)
        except torch.OutOfMemoryError:
            if not self._leaving:
                raise
            while self._leaving:
                self._lift_first()
            chunks = self._pool.take(size)
        away = self._away.setdefault(label, [])
        piece = next((piece for piece in away if piece.nbytes == size), None)
        if piece is None:
            del away[: -RANGES + 1]
            piece = TorchPiece(label, size, None, memory.Range(size, self.name))
        else:
            away.remove(piece)
        assert piece.range is not None
        piece.range.lay(chunks)
        piece.bytes = piece.range.bytes
        return piece

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

    def mark(self) -> torch.Event | None:
        """An event that keeps its time; CUDA's only, since others' cost is not known."""
        if self.name.type != "cuda":
            return None
        event = torch.Event(self.name, enable_timing=True)
        event.record(torch.accelerator.current_stream(self.name))
        return event

    def passed(self, mark: torch.Event) -> bool:
        """As the event says."""
        return mark.query()

    def between(self, start: torch.Event, end: torch.Event) -> float:
        """By the events' own clock, which counts milliseconds."""
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def bind(self, piece: TorchPiece, offset: int, like: torch.Tensor) -> torch.Tensor:
        """A typed view over the piece."""
        assert piece.bytes is not None
        # Over the storage, not a view: a view would share its version counter.
        made = torch.empty(0, dtype=like.dtype, device=self.name)
        storage = piece.bytes.untyped_storage()
        return made.set_(storage, offset // like.element_size(), like.shape, like.stride())

    @property
    def uncounted(self) -> int:
        """What comes from the driver."""
        return self._pool.nbytes

    def reserved(self) -> int:
        """Bytes that torch's allocator holds and our own; ours alone where the backend does not say."""
        return (self._pool.nbytes if self._exact else self.own) + self.beside()

    def beside(self) -> int:
        """By torch's count; 0 where the backend has none."""
        if self.name.type == "mps":
            held = int(torch.mps.driver_allocated_memory())
        elif self.name.type == "cuda":
            held = int(self._counters().get("reserved_bytes", {}).get("all", {}).get("current", 0))
        else:
            count = getattr(self._module, "memory_reserved", None)
            held = int(count(self.name)) if count else 0
        return held if self._exact else max(0, held - self.own)

    def trim(self) -> None:
        """Where the backend has a cache."""
        if hasattr(self._module, "empty_cache"):
            self._module.empty_cache()

    def refusals(self) -> int:
        """By torch's count; libraries that choose a kernel by its workspace try another and say nothing."""
        return int(self._counters().get("num_ooms", 0)) if self.name.type == "cuda" else 0

    def retries(self) -> int:
        """By torch's count."""
        return int(self._counters().get("num_alloc_retries", 0)) if self.name.type == "cuda" else 0

    def cap(self, nbytes: int | None) -> bool:
        """By ``set_per_process_memory_fraction``, where the backend has it and says how large the card is."""
        if not hasattr(self._module, "set_per_process_memory_fraction") or self._total is None:
            return False
        self._cap = nbytes
        if nbytes is None:
            self._module.set_per_process_memory_fraction(1.0, self.name)
            segments.restore(self)
        elif self._exact:
            segments.expand(self)
        self._hold()
        return True

    def _counters(self) -> dict[str, Any]:
        """As ``torch.cuda.memory_stats``, most of whose time goes into a name for each of them."""
        return torch.cuda.memory_stats_as_nested_dict(self.name)

    def _make_room(self, size: int) -> None:
        """For ``size`` bytes, as far as they are not spare: under the cap, or where there is none in what
        leaves."""
        over = self._drained(size)
        while self._leaving and (self._cap is None or over > 0):
            self._lift_first()
            over = self._drained(size)
        if over <= 0:
            return
        self.tidy()
        self.trim()
        if (over := self._over(size)) > 0:
            raise torch.OutOfMemoryError(
                f"{self.name}: {size / 2**30:.2f} GiB of weights pass the budget of "
                f"{(self._cap or 0) / 2**30:.2f} GiB by {over / 2**30:.2f}"
            )

    def _drained(self, size: int) -> int:
        """``_over``, once what is spare and of no use for ``size`` has left, as far as that helps."""
        over = self._over(size)
        return over - self._pool.drain(over, keep=size)

    def _over(self, size: int) -> int:
        """Bytes by which ``size`` more would pass the cap; 0 without one."""
        return 0 if self._cap is None else self.reserved() + self._pool.lacks(size) - self._cap

    def _hold(self) -> None:
        """What torch's allocator may hold is what we leave of the cap."""
        if self._cap is not None and self._total is not None:
            left = max(0, self._cap - self._pool.nbytes)
            self._module.set_per_process_memory_fraction(min(1.0, left / self._total), self.name)

    def _lane(self, lane: Lane) -> Any:
        if self._copies is None:
            return None
        return self._copies if lane == "copy" else torch.accelerator.current_stream(self.name)
