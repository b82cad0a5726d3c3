"""The virtual accelerator behind the Device protocol, on the worst terms that the protocol allows.

Memory that nobody wrote reads as NaN, a copy lands only when the compute lane has waited for it, and
whoever relies on luck is written down as a fault. Copies read the host's bytes when they land, not
when they are queued: a staging buffer that is reused too early shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch

from planner.device.protocol import Lane
from planner.virtual import backend
from planner.virtual.lanes import Clocks, SimEvent
from planner.virtual.ledger import Ledger
from planner.virtual.memory import METER, Block
from planner.virtual.tensor import SimTensor, sim_device

FaultKind = Literal["read-before-wait", "use-after-free", "write-under-reader", "free-in-flight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that a real card would have got wrong, now or then. ``label`` is the piece's."""

    kind: FaultKind
    label: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.label}: {self.detail}"


class SimFault(RuntimeError):
    """A fault, raised where it happens (``strict=True``)."""


class SimPiece:
    """One allocation: its bytes, what is on the way to them, and who used them last. ``lasting``: what is
    bound over it is valid again when it comes back."""

    def __init__(self, device: SimDevice, nbytes: int, label: str, *, lasting: bool) -> None:
        self._device = device
        self.lasting = lasting
        self.nbytes = nbytes
        self.label = label
        self.freed = False
        self.block = Block(nbytes, self)
        self.pending: list[tuple[int, int, torch.Tensor]] = []
        self.uses: dict[tuple[int, int], int] = {}
        """When the compute lane last used each range of bytes."""
        # the memory goes when the piece is freed and nothing bound from it is left
        self.memory: torch.Tensor | None = _fresh(nbytes)

    def touch(self, elem: torch.Tensor, op: str) -> None:
        """An operation uses the bytes of ``elem``."""
        self._device.touched(self, elem, op)

    def awaits(self, elem: torch.Tensor) -> bool:
        """Whether bytes of ``elem`` are on their way, or gone."""
        start, stop = _range(elem)
        return self.freed or any(start < at + source.numel() and at < stop for _, at, source in self.pending)

    def used(self, start: int, stop: int) -> int:
        """When the compute lane last used any of these bytes."""
        return max((at for (a, b), at in self.uses.items() if a < stop and start < b), default=0)


class SimDevice:
    """``sim:0`` for a session. ``faults`` and ``ledger`` say what it did.

    ``capacity`` is in bytes: an ``alloc`` that, with everything live on the card, passes it raises
    torch's OutOfMemoryError. ``strict`` raises SimFault instead of going on. ``capped``: ``cap`` is obeyed,
    as CUDA does; else a budget binds weights alone, since what activations take here is no card's figure.
    ``lasting``: a component's piece comes back where it was, as on CUDA, which costs the host its bytes.
    Raises PlanError (P750, P751) where this torch cannot have the backend.
    """

    def __init__(
        self,
        *,
        capacity: int | None = None,
        strict: bool = False,
        capped: bool = False,
        lasting: bool = False,
    ) -> None:
        backend.install()
        self.capacity = capacity
        self._capped = capped
        self._lasting = lasting
        self._away: dict[tuple[str, int], list[SimPiece]] = {}
        self.strict = strict
        self.ledger = Ledger()
        self._faults: list[Fault] = []
        self._clocks = Clocks()
        self._in_flight: list[SimPiece] = []

    @property
    def name(self) -> torch.device:
        """``sim:0``."""
        return sim_device()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What went wrong so far, in order."""
        return tuple(self._faults)

    def alloc(self, nbytes: int, label: str) -> SimPiece:
        """A piece full of NaN. Raises torch's OutOfMemoryError over the capacity."""
        if nbytes < 0:
            raise ValueError(f"a piece cannot have {nbytes} bytes")
        if self.capacity is not None and METER.allocated + nbytes > self.capacity:
            raise torch.OutOfMemoryError(
                f"sim out of memory. Tried to allocate {nbytes} bytes for {label}. sim:0 has a capacity of "
                f"{self.capacity} bytes of which {max(0, self.capacity - METER.allocated)} bytes is free"
            )
        if away := self._away.get((label, nbytes)):
            away[-1].block.take()
            piece = away.pop()
            piece.freed = False
        else:
            with _as_session():
                piece = SimPiece(self, nbytes, label, lasting=self._lasting)
        # kernels queued earlier may still read what lay here before: that is a use by the compute lane
        piece.uses[0, nbytes] = self._clocks.tick("compute")
        self.ledger.allocated(label, nbytes)
        return piece

    def free(self, piece: SimPiece) -> None:
        """Take the piece back; whatever is still bound to it reads NaN and is a fault."""
        if piece.freed:
            self._fault("use-after-free", piece, "freed twice")
            return
        if piece.pending:
            self._fault("free-in-flight", piece, f"{len(piece.pending)} copies not waited for")
            piece.pending.clear()
            self._in_flight.remove(piece)
        piece.freed = True
        with _as_session():
            _poison(piece.memory)
        if piece.lasting:
            self._away.setdefault((piece.label, piece.nbytes), []).append(piece)
        else:
            piece.memory = None
        piece.block.release()
        self.ledger.freed(piece.label, piece.nbytes)

    def tidy(self, beside: int | None = None) -> bool:
        """What is given back is gone at once."""
        return False

    def copy(self, piece: SimPiece, offset: int, source: torch.Tensor) -> None:
        """Queue ``source`` (1-d uint8 on the host) into ``piece[offset:]``; until it lands, NaN is there.

        Raises ValueError where it does not fit or is not bytes of the host.
        """
        if source.dtype != torch.uint8 or source.dim() != 1 or source.device.type != "cpu":
            raise ValueError(
                f"a copy takes 1-d uint8 on the host, not {source.dim()}-d {source.dtype} on {source.device}"
            )
        if offset < 0 or offset + source.numel() > piece.nbytes:
            raise ValueError(
                f"{source.numel()} bytes at {offset} do not fit a piece of {piece.nbytes} for {piece.label}"
            )
        position = self._clocks.tick("copy")
        if piece.freed or piece.memory is None:
            self._fault("use-after-free", piece, f"copy of {source.numel()} bytes to {offset}")
            return
        if self._clocks.knows("copy", "compute") < piece.used(offset, offset + source.numel()):
            self._fault("write-under-reader", piece, f"copy of {source.numel()} bytes to {offset}")
        with _as_session():
            _poison(piece.memory[offset : offset + source.numel()])
        if not piece.pending:
            self._in_flight.append(piece)
        piece.pending.append((position, offset, source))
        self.ledger.copied(piece.label, source.numel())

    def record(self, lane: Lane) -> SimEvent:
        """An event after everything queued on ``lane`` so far."""
        return self._clocks.record(lane)

    def wait(self, lane: Lane, event: SimEvent) -> None:
        """``lane`` goes on after ``event``; where that is the compute lane, the copies before it land."""
        self._clocks.wait(lane, event)
        if lane != "compute":
            return
        landed = self._clocks.knows("compute", "copy")
        for piece in tuple(self._in_flight):
            later = []
            for position, offset, source in piece.pending:
                if position <= landed and piece.memory is not None:
                    with _as_session():
                        piece.memory[offset : offset + source.numel()].copy_(source)
                else:
                    later.append((position, offset, source))
            piece.pending = later
            if not later:
                self._in_flight.remove(piece)

    def mark(self) -> None:
        """Time means nothing here."""

    def passed(self, mark: None) -> bool:
        """Never asked for."""
        return True

    def between(self, start: None, end: None) -> float:
        """Never asked for."""
        return 0.0

    def bind(self, piece: SimPiece, offset: int, like: torch.Tensor) -> torch.Tensor:
        """A tensor over ``piece[offset:]`` with the dtype, shape and strides of ``like``.

        Raises ValueError where it does not fit or is not aligned.
        """
        extent = _extent(like)
        if offset < 0 or offset % like.element_size() or offset + extent > piece.nbytes:
            raise ValueError(
                f"{extent} bytes of {like.dtype} at {offset} do not fit a piece of {piece.nbytes} bytes "
                f"for {piece.label}"
            )
        if piece.freed:
            self._fault("use-after-free", piece, "bound")
        memory = _fresh(piece.nbytes) if piece.memory is None else piece.memory
        with torch.inference_mode(False), torch.no_grad(), _as_session():
            elem = torch.empty(0, dtype=like.dtype)
            elem.set_(
                memory.untyped_storage(), offset // like.element_size(), tuple(like.shape), like.stride()
            )
            return SimTensor(elem, piece.block)

    def reserved(self) -> int:
        """Bytes live on the card: pieces and what operations made."""
        return METER.allocated

    @property
    def own(self) -> int:
        """Bytes of live pieces."""
        return self.ledger.live

    @property
    def uncounted(self) -> int:
        """None: one meter counts everything."""
        return 0

    def beside(self) -> int:
        """The most that operations held since ``trim``: an allocator keeps what it once had."""
        return METER.high - self.ledger.live

    def trim(self) -> None:
        """What was once held is forgotten."""
        METER.high = METER.allocated

    def refusals(self) -> int:
        """How often an allocation passed the limit."""
        return METER.refused

    def retries(self) -> int:
        """None: nothing is kept for reuse."""
        return 0

    def cap(self, nbytes: int | None) -> bool:
        """Where ``capped`` was asked for."""
        if self._capped:
            METER.limit = nbytes
        return self._capped

    def touched(self, piece: SimPiece, elem: torch.Tensor, op: str) -> None:
        """The compute lane uses the bytes of ``elem``, which lie in ``piece``."""
        if piece.freed:
            self._fault("use-after-free", piece, f"{op} of {tuple(elem.shape)}")
            return
        piece.uses[_range(elem)] = self._clocks.tick("compute")
        if elem.numel() and piece.awaits(elem):
            self._fault("read-before-wait", piece, f"{op} of {tuple(elem.shape)}")

    def _fault(self, kind: FaultKind, piece: SimPiece, detail: str) -> None:
        fault = Fault(kind=kind, label=piece.label, detail=detail)
        self._faults.append(fault)
        if self.strict:
            raise SimFault(str(fault))


_session: ContextVar[int] = ContextVar("session_work", default=0)


@contextmanager
def session_work() -> Iterator[None]:
    """Around a session's own reads of host weights (packing, comparing): they are not uses."""
    token = _session.set(_session.get() + 1)
    try:
        yield
    finally:
        _session.reset(token)


def in_session_work() -> bool:
    """Whether what runs now is a session's own work."""
    return _session.get() > 0


_as_session = session_work


def _fresh(nbytes: int) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.full((nbytes,), 0xFF, dtype=torch.uint8, device="cpu")


def _poison(memory: torch.Tensor | None) -> None:
    if memory is not None:
        memory.fill_(0xFF)


def _range(elem: torch.Tensor) -> tuple[int, int]:
    start = int(elem.storage_offset()) * elem.element_size()
    return start, start + _extent(elem)


def _extent(tensor: torch.Tensor) -> int:
    """Bytes from the first element to the end of the last, for any strides."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
