"""The virtual accelerator behind the Device protocol, on the worst terms that the protocol allows.

Memory that nobody wrote reads as NaN, a copy lands as late as it may, or by a seed whenever it may, and
whoever relies on luck is written down as a fault. Copies read the host's bytes when they land, not
when they are queued: a staging buffer that is reused too early shows. So does memory that is given back or
written while a tensor refers to it that no session made.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from planner.device.protocol import Device, Lane, Region
from planner.virtual import backend
from planner.virtual.copies import Copies
from planner.virtual.lanes import Clocks, SimEvent
from planner.virtual.ledger import Ledger
from planner.virtual.memory import METER
from planner.virtual.operations import Fail, Operations, operated
from planner.virtual.own_work import own_work
from planner.virtual.piece import SimPiece, extent, fresh, span
from planner.virtual.tensor import SimTensor, sim_device

FaultKind = Literal[
    "read-before-wait",
    "use-after-free",
    "write-under-reader",
    "free-in-flight",
    "free-while-aliased",
    "overwrite-while-aliased",
]


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


@operated(Device)
class SimDevice:
    """``sim:0`` for a session. ``faults`` and ``ledger`` say what it did.

    ``capacity`` is in bytes: an ``alloc`` that, with everything live on the card, passes it raises
    torch's OutOfMemoryError. ``strict`` raises SimFault instead of going on. ``capped``: ``cap`` is obeyed,
    as CUDA does; else a budget binds weights alone, since what activations take here is no card's figure.
    ``lasting``: a component's piece comes back where it was, as on CUDA, which costs the host its bytes.
    ``aliases``: memory that leaves or is written while a tensor refers to it that no session made is a fault.
    ``seed``: each copy lands at once, late, or at some operation in between, the same for the same seed and
    calls; without one, all land late. ``fail``: what of the protocol's operations is to fail, and how.
    Raises PlanError (P750, P751) where this torch cannot have the backend.
    """

    def __init__(
        self,
        *,
        capacity: int | None = None,
        strict: bool = False,
        capped: bool = False,
        lasting: bool = False,
        aliases: bool = False,
        seed: int | None = None,
        fail: Fail | Iterable[Fail] = (),
    ) -> None:
        backend.install()
        self.capacity = capacity
        self._capped = capped
        self._lasting = lasting
        self._away: dict[tuple[str, int], list[SimPiece]] = {}
        self.strict = strict
        self.aliases = aliases
        self.seed = seed
        self.operations = Operations((fail,) if isinstance(fail, Fail) else fail)
        self.ledger = Ledger()
        self._faults: list[Fault] = []
        self._clocks = Clocks()
        self._copies = Copies(seed)
        self._abandoned: dict[SimPiece, int] = {}

    def __repr__(self) -> str:
        return f"SimDevice(seed={self.seed})"

    @property
    def name(self) -> torch.device:
        """``sim:0``."""
        return sim_device()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What went wrong so far, in order."""
        return tuple(self._faults)

    def alloc(self, nbytes: int, label: str, owned: list[Any] | None = None) -> SimPiece:
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
            piece = SimPiece(self, nbytes, label, lasting=self._lasting)
        if owned is not None:
            owned.append(piece)
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
        self._judge_aliases("free-while-aliased", piece, 0, piece.nbytes)
        self._release(piece)

    def _release(self, piece: SimPiece) -> None:
        self._copies.drop(piece)
        piece.freed = True
        piece.poison()
        if piece.lasting:
            self._away.setdefault((piece.label, piece.nbytes), []).append(piece)
        else:
            piece.memory = None
        piece.block.release()
        self.ledger.freed(piece.label, piece.nbytes)

    def abandon(self, piece: SimPiece) -> None:
        """It stays as it is, and counts, until the last tensor over it is gone."""
        regions = [*piece.regions.values()]
        piece.regions = {}
        if not regions:
            self._release(piece)
            return
        self._abandoned[piece] = len(regions)
        for region in regions:
            weakref.finalize(region, self._region_gone, piece).atexit = False

    def _region_gone(self, piece: SimPiece) -> None:
        self._abandoned[piece] -= 1
        if not self._abandoned[piece]:
            del self._abandoned[piece]
            self._release(piece)

    @property
    def abandoned(self) -> int:
        """Bytes of what is not gone."""
        return sum(piece.nbytes for piece in self._abandoned)

    def references(self, piece: SimPiece, region: Region) -> int:
        """Every view of a region's tensors holds its entry in the books."""
        block = piece.regions.get(region)
        return 0 if block is None else sys.getrefcount(block) - _OWN_REFERENCES

    def storage_of(self, tensor: torch.Tensor) -> int:
        """Of the entry in the books that its views share."""
        return id(tensor.block) if isinstance(tensor, SimTensor) else 0

    def release_freed(self, beside: int | None = None) -> bool:
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
        self._judge_aliases("overwrite-while-aliased", piece, offset, offset + source.numel())
        piece.poison(offset, offset + source.numel())
        self._copies.queue(piece, offset, source, position)
        self.ledger.copied(piece.label, source.numel())

    def record(self, lane: Lane) -> SimEvent:
        """An event after everything queued on ``lane`` so far."""
        return self._clocks.record(lane)

    def wait(self, lane: Lane, event: SimEvent) -> None:
        """``lane`` goes on after ``event``; where that is the compute lane, the copies before it land."""
        self._clocks.wait(lane, event)
        if lane == "compute":
            self._copies.waited(self._clocks.knows("compute", "copy"))

    def mark(self, lane: Lane = "compute") -> None:
        """Time means nothing here."""

    def passed(self, mark: None) -> bool:
        """Never asked for."""
        return True

    def between(self, start: None, end: None) -> float:
        """Never asked for."""
        return 0.0

    def bind(
        self, piece: SimPiece, offset: int, like: torch.Tensor, region: Region | None = None
    ) -> torch.Tensor:
        """A tensor over ``piece[offset:]`` with the dtype, shape and strides of ``like``.

        Raises ValueError where it does not fit or is not aligned.
        """
        nbytes = extent(like)
        if offset < 0 or offset % like.element_size() or offset + nbytes > piece.nbytes:
            raise ValueError(
                f"{nbytes} bytes of {like.dtype} at {offset} do not fit a piece of {piece.nbytes} bytes "
                f"for {piece.label}"
            )
        if piece.freed:
            self._fault("use-after-free", piece, "bound")
        memory = fresh(piece.nbytes) if piece.memory is None else piece.memory
        with torch.inference_mode(False), torch.no_grad(), own_work():
            elem = torch.empty(0, dtype=like.dtype)
            elem.set_(
                memory.untyped_storage(), offset // like.element_size(), tuple(like.shape), like.stride()
            )
            return SimTensor(elem, piece.block_of(region or (0, piece.nbytes, 0)))

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

    def allocator_reserved(self) -> int:
        """The most that operations held since ``empty_cache``: an allocator keeps what it once had."""
        return METER.high

    def beyond(self) -> int:
        """It has no context."""
        return 0

    def empty_cache(self) -> None:
        """What was once held is forgotten."""
        METER.high = METER.beside

    def oom_count(self) -> int:
        """How often an allocation passed the limit."""
        return METER.refused

    def retry_count(self) -> int:
        """None: nothing is kept for reuse."""
        return 0

    def cap(self, nbytes: int | None) -> bool:
        """Where ``capped`` was asked for."""
        if self._capped:
            METER.limit = nbytes
        return self._capped

    def touched(self, piece: SimPiece, elem: torch.Tensor, op: str) -> None:
        """The compute lane uses the bytes of ``elem``, which lie in ``piece``."""
        self._copies.tick()
        if piece.freed:
            self._fault("use-after-free", piece, f"{op} of {tuple(elem.shape)}")
            return
        piece.uses[span(elem)] = self._clocks.tick("compute")
        if elem.numel() and piece.awaits(elem):
            self._fault("read-before-wait", piece, f"{op} of {tuple(elem.shape)}")

    def foreign(self, piece: SimPiece, start: int, stop: int, ours: Collection[torch.Tensor]) -> bool:
        """Whether a living tensor other than ``ours`` refers to any of the bytes ``piece[start:stop]``: a
        view of a weight, a ``detach`` or ``.data`` of it, what autograd saved. Until there is none, they must
        not be freed or written.

        ``ours``: what the caller made over them and still has, by identity: the results of ``bind``, and the
        Parameters made of those. One of them that autograd holds too (``tensor._use_count() > 1``) counts as
        foreign with all its bytes, and so does one that a view is of. Not seen is a Python reference to one
        of ``ours`` itself: ask ``sys.getrefcount``, or let go of the tensor before asking. On CUDA
        ``tensor.untyped_storage()._use_count()`` answers the same for a storage; a tensor of this device has
        no storage of its own that could be asked.
        """
        return next(piece.foreign(start, stop, ours), None) is not None

    def before_operation(self) -> None:
        """One of the protocol's begins: what is due on the copy lane lands."""
        self._copies.tick()

    def lost(self, result: Any) -> None:
        """A piece that nobody got is given back, as the last reference to it would on a card."""
        if isinstance(result, SimPiece):
            self._release(result)

    def _judge_aliases(self, kind: FaultKind, piece: SimPiece, start: int, stop: int) -> None:
        for tensor in piece.over(start, stop) if self.aliases else ():
            if not _bound(tensor) or tensor._use_count() > 1:  # type: ignore[attr-defined]  # not in the stub
                self._fault(kind, piece, f"a tensor of {tuple(tensor.shape)} still refers to it")
                return

    def _fault(self, kind: FaultKind, piece: SimPiece, detail: str) -> None:
        fault = Fault(kind=kind, label=piece.label, detail=detail)
        self._faults.append(fault)
        if self.strict:
            raise SimFault(str(fault))


def _bound(tensor: SimTensor) -> bool:
    """Whether it is a session's own: what ``bind`` gave, or a Parameter made of that."""
    return tensor.generation == 0 or (tensor.generation == 1 and getattr(tensor, "_is_param", False))


def _own_references() -> int:
    """Of a block in its piece's table, as ``references`` counts them."""
    table = {0: object()}
    block = table.get(0)
    return sys.getrefcount(block)


_OWN_REFERENCES = _own_references()
