"""The ``Device`` protocol on a torch accelerator: two streams where there are streams, else plain calls."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch

from planner.device import memory, segments
from planner.device.protocol import Lane, Region
from planner.device.references import require_counts, storage_references

REGIONS = ("cuda", "xpu", "cpu")
"""Devices whose memory has addresses that can be cut in regions, each with a storage of its own."""

RANGES = 48
"""Ranges of addresses that a component keeps while it is away: it lies in up to 17 pieces, in few shapes."""

_WHOLE = (0, -1, -1)
"""The key of the region that is written."""


@dataclass(slots=True, eq=False)
class TorchPiece:
    """One allocation: ``bytes`` is the tensor over it, None while it has no memory; ``range`` its addresses,
    None where torch's allocator gave it; ``regions``: a tensor, with a storage of its own, over each part for
    which references are counted; ``freed``: it was given back.

    What is copied in does not count as a change of what is bound: ``bytes`` is written, and nothing that is
    bound shares its version counter.
    """

    label: str
    nbytes: int
    bytes: torch.Tensor | None = None
    range: memory.Range | None = None
    regions: dict[Region, torch.Tensor] = field(default_factory=dict)
    freed: bool = False

    @property
    def lasting(self) -> bool:
        """Where the addresses are its own."""
        return self.range is not None


class TorchDevice:
    """CUDA, XPU and MPS through torch's device-generic calls.

    Pieces come from the driver on CUDA, elsewhere from torch's allocator. The copy stream waits for the
    caller's current stream before it writes.

    Invariants: a piece that is not ``freed`` is in ``_live`` or ``_abandoned``, and ``own`` is a sum over
    them; one that is has its memory, if any, until its entry in ``_leaving`` is done. Every step can be done
    again."""

    def __init__(self, name: torch.device) -> None:
        """Raises PlanError (P732) where this torch does not count references."""
        require_counts()
        self.name = name
        self._module = torch.get_device_module(name)
        self._copies = self._stream()
        self._exact = memory.available(name)
        self._pool = memory.Pool(name)
        query = getattr(self._module, "mem_get_info", None)
        self._total = int(query(name)[1]) if query is not None else None
        self._cap: int | None = None
        self._live: list[TorchPiece] = []
        self._away: dict[str, list[TorchPiece]] = {}
        """By label, with ranges that have no memory."""
        self._leaving: list[tuple[TorchPiece, torch.Event]] = []
        """Freed, with memory that kernels may still read, until the event."""
        self._abandoned: list[TorchPiece] = []
        self._abandoned_ranges: list[weakref.ref[memory.Range]] = []

    def _stream(self) -> Any:
        """A stream for copies; None where the backend has no streams (MPS): then copies are in order."""
        if not hasattr(self._module, "Stream") or not hasattr(self._module, "current_stream"):
            return None
        return torch.Stream(self.name)

    def alloc(self, nbytes: int, label: str, owned: list[Any] | None = None) -> TorchPiece:
        """At least one byte, so that an empty component has a place. On CUDA the piece of ``label`` that had
        this size before, if one is away: what was bound over it is valid again."""
        size = memory.rounded(max(nbytes, 1)) if self._exact else max(nbytes, 1)
        self._make_room(size)
        piece = self._away_piece(label, size) or TorchPiece(label, size)
        piece.freed = False
        if owned is not None:
            owned.append(piece)
        self._live.append(piece)
        try:
            if self._exact:
                self._lay(piece)
            else:
                piece.bytes = torch.empty(size, dtype=torch.uint8, device=self.name)
        except torch.OutOfMemoryError:
            self._live.remove(piece)
            if owned is not None:
                owned.remove(piece)
            raise
        self._hold()
        return piece

    def free(self, piece: TorchPiece) -> None:
        """Its memory is the next one's, or the driver's by ``release_freed``. Elsewhere than on CUDA it is
        torch's with the last reference, in the order of the stream."""
        if piece.range is not None:
            event = torch.accelerator.current_stream(self.name).record_event()
            self._leaving = [*(one for one in self._leaving if one[0] is not piece), (piece, event)]
        else:
            piece.regions.clear()
        piece.bytes = None
        if piece in self._live:
            self._live.remove(piece)
        piece.freed = True

    def abandon(self, piece: TorchPiece) -> None:
        """On CUDA its tensors keep its range, which gives its memory back when the last of them is gone."""
        if piece.range is not None:
            self._abandoned_ranges.append(weakref.ref(piece.range))
        elif piece not in self._abandoned:
            self._abandoned.append(piece)
        if piece in self._live:
            self._live.remove(piece)
        if piece.range is not None:
            piece.regions.clear()
            piece.bytes = piece.range = None

    def references(self, piece: TorchPiece, region: Region) -> int:
        """By the count of the region's own storage. 0 where there are none (MPS): there torch's allocator
        keeps what is freed for those who refer to it, and references to a streamed block's place are not
        seen."""
        found = piece.regions.get(region)
        return 0 if found is None else storage_references(_storage(found)) - 1

    def storage_of(self, tensor: torch.Tensor) -> int:
        """Its address in torch."""
        return _storage(tensor)

    def release_freed(self, beside: int | None = None) -> bool:
        """The host waits for whoever ran on what leaves, and for no copy."""
        need = None
        if beside is not None and self._cap is not None:
            need = max(0, self._pool.nbytes + beside - self._cap)
        gone = 0
        while need is None or gone < need:
            # What is unmapped already goes before the host waits for anything.
            gone += self._pool.drain(None if need is None else need - gone)
            if not self._leaving or (need is not None and gone >= need):
                break
            self._unmap_oldest()
        if gone:
            self._hold()
        return bool(gone)

    def _unmap_oldest(self) -> None:
        """Unmaps the piece that was freed first; its memory is spare in the pool."""
        piece, event = self._leaving[0]
        event.synchronize()
        if piece.freed and piece.range is not None:
            piece.range.lift()
            self._away.setdefault(piece.label, []).append(piece)
        del self._leaving[0]

    def _away_piece(self, label: str, size: int) -> TorchPiece | None:
        """The piece of this size that ``label`` had before; few are kept."""
        away = self._away.get(label, [])
        found = next((piece for piece in away if piece.nbytes == size and piece.freed), None)
        away[:] = [piece for piece in away if piece is not found]
        if found is None:
            del away[: -RANGES + 1]
        return found

    def _lay(self, piece: TorchPiece) -> None:
        """Memory under the addresses of ``piece``: what is spare, the driver's, and where that has none what
        was freed. What was freed is not asked whether it can be had by now: how much is held would depend on
        timing, and nobody could predict it."""
        if piece.range is None:
            piece.range = memory.Range(piece.nbytes, self._pool, self.name)
        try:
            piece.range.lay()
        except torch.OutOfMemoryError:
            if not self._leaving:
                raise
            while self._leaving:
                self._unmap_oldest()
            piece.range.lay()
        piece.bytes = piece.regions.get(_WHOLE)
        if piece.bytes is None:
            piece.bytes = piece.regions[_WHOLE] = piece.range.tensor(0, piece.nbytes)

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

    def mark(self, lane: Lane = "compute") -> torch.Event | None:
        """An event that keeps its time; CUDA's only, since others' cost is not known."""
        if self.name.type != "cuda":
            return None
        event = torch.Event(self.name, enable_timing=True)
        event.record(self._lane(lane))
        return event

    def passed(self, mark: torch.Event) -> bool:
        """As the event says."""
        return mark.query()

    def between(self, start: torch.Event, end: torch.Event) -> float:
        """By the events' own clock, which counts milliseconds."""
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def bind(
        self, piece: TorchPiece, offset: int, like: torch.Tensor, region: Region | None = None
    ) -> torch.Tensor:
        """Typed, over the storage of ``region``."""
        region = region or (0, piece.nbytes, 0)
        over = self._tensor_over(piece, region)
        # Over the storage, not a view: a view would share its version counter.
        made = torch.empty(0, dtype=like.dtype, device=self.name)
        inside = offset - region[0] if over is not piece.bytes else offset
        return made.set_(over.untyped_storage(), inside // like.element_size(), like.shape, like.stride())

    def _tensor_over(self, piece: TorchPiece, region: Region) -> torch.Tensor:
        """A tensor over these bytes, with a storage of its own where the device has addresses."""
        assert piece.bytes is not None
        if self.name.type not in REGIONS:
            return piece.bytes
        start, stop, _ = region
        if region not in piece.regions:
            if piece.range is not None:
                made = piece.range.tensor(start, stop)
            else:
                core: Any = torch._C
                address = piece.bytes.data_ptr() + start
                storage = core._construct_storage_from_data_pointer(address, self.name, stop - start)
                made = torch.empty(0, dtype=torch.uint8, device=self.name).set_(storage)
            piece.regions[region] = made
        return piece.regions[region]

    @property
    def own(self) -> int:
        """Of pieces in use and of abandoned ones."""
        return sum(piece.nbytes for piece in self._live) + self.abandoned

    @property
    def abandoned(self) -> int:
        """Of those that are not ours; what nobody refers to any more is freed first."""
        for piece in [*self._abandoned]:
            if not any(self.references(piece, region) for region in piece.regions):
                self.free(piece)
                self._abandoned.remove(piece)
        ranges = {found for ref in self._abandoned_ranges if (found := ref()) is not None}
        self._abandoned_ranges = [weakref.ref(one) for one in ranges]
        return sum(piece.nbytes for piece in self._abandoned) + sum(one.nbytes for one in ranges)

    @property
    def uncounted(self) -> int:
        """What comes from the driver."""
        return self._pool.nbytes

    def reserved(self) -> int:
        """Bytes that torch's allocator holds and our own; ours alone where the backend does not say."""
        return (self._pool.nbytes if self._exact else self.own) + self.allocator_reserved()

    def allocator_reserved(self) -> int:
        """By torch's count; 0 where the backend has none."""
        if self.name.type == "mps":
            held = int(torch.mps.driver_allocated_memory())
        elif self.name.type == "cuda":
            held = int(self._counters().get("reserved_bytes", {}).get("all", {}).get("current", 0))
        else:
            count = getattr(self._module, "memory_reserved", None)
            held = int(count(self.name)) if count else 0
        return held if self._exact else max(0, held - self.own)

    def beyond(self) -> int:
        """By the driver."""
        if self._total is None:
            return 0
        free, total = self._module.mem_get_info(self.name)
        return max(0, int(total) - int(free) - self.reserved())

    def empty_cache(self) -> None:
        """Where the backend has a cache."""
        if hasattr(self._module, "empty_cache"):
            self._module.empty_cache()

    def oom_count(self) -> int:
        """By torch's count; libraries that choose a kernel by its workspace try another and say nothing."""
        return int(self._counters().get("num_ooms", 0)) if self.name.type == "cuda" else 0

    def retry_count(self) -> int:
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
            self._unmap_oldest()
            over = self._drained(size)
        if over <= 0:
            return
        self.release_freed()
        self.empty_cache()
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


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
