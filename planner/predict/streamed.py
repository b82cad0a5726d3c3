"""One component's weights on a clock: what ``planner.streaming.device_weights`` does on a device.

The order of copies, what is overwritten and what waits are those of ``planner.graph.stepping``, which a
session runs as well; pieces are cut by the same ``planner.graph.pieces``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from planner.graph.pieces import Pieces
from planner.graph.ring import Ring
from planner.graph.split import Split
from planner.graph.stepping import Stepper
from planner.predict.clock import COMPUTES, COPIES, HANDLES, RAN, WAITS, Clock, Deed
from planner.predict.memory import Memory, NoMemory
from planner.target.model import Blocks

BIND, UNBIND = 1.0, 0.5
"""As many operations' time the host takes to put a tensor over device memory into its module, and to put the
host's back: together 40 microseconds, by which SDXL's calls (2,600 tensors) were longer on an H200."""
MOST = 5_000_000
"""Deeds that are kept: 8 bytes each."""
FIXED = 0
"""The number of what lies outside of all blocks; block ``n`` of ``Blocks.streamable`` is ``n + 1``."""


@dataclass(frozen=True, slots=True)
class Work:
    """A stretch of a forward: the ``block`` (by number) in which it computes, so many ``seconds`` of the
    device in ``operations`` (a whole number, but where a run told how long they take)."""

    block: int
    seconds: float
    operations: float


def order_of(work: Sequence[Work]) -> tuple[int, ...]:
    """In which order blocks run, by number: one that is entered again after others is there again."""
    return tuple(block for block, _ in groupby(stretch.block for stretch in work if stretch.block != FIXED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """What a forward does, which depends on no time: ``deeds``, and how it leaves the blocks: which one runs
    (``current``), which were not fetched (``missing``), what lies in the ``ring``, and which are in their
    modules (``bound``)."""

    deeds: tuple[Deed, ...]
    current: int | None
    missing: frozenset[int]
    ring: tuple[int, ...]
    bound: frozenset[int]


class Forwards:
    """Those that were written down before: many plans for one call have the same ones. ``tapes``: by all that
    decides what a forward does, the identity of its work, which ``order_of`` was asked of, among it."""

    def __init__(self) -> None:
        """None was."""
        self.tapes: dict[Hashable, Tape] = {}
        self._orders: dict[int, tuple[Sequence[Work], tuple[int, ...]]] = {}
        self._deeds: dict[Deed, Deed] = {}
        self._kept = 0

    def order_of(self, work: Sequence[Work]) -> tuple[int, ...]:
        """As the function. The work is kept, so that no other one has its identity."""
        found = self._orders.get(id(work))
        if found is None:
            found = self._orders[id(work)] = work, order_of(work)
        return found[1]

    def keep(self, key: Hashable, tape: Tape) -> None:
        """A tape more; none of the others where it is one too many."""
        self._kept += len(tape.deeds)
        if self._kept > MOST:
            self.tapes.clear()
            self._kept = len(tape.deeds)
        self.tapes[key] = tape

    def same(self, deed: Deed) -> Deed:
        """One for all that are equal."""
        return self._deeds.setdefault(deed, deed)


class ClockWeights:
    """On the device, as far as ``begin``, ``complete`` and ``shed`` say, until ``release``.

    Invariant: ``_taken`` are the bytes of the pieces that have memory, the first ones of ``_pieces``;
    ``_ring_taken`` those of the ring, 0 while it has none.
    """

    def __init__(
        self,
        name: str,
        blocks: Blocks,
        order: tuple[int, ...],
        split: Split | None,
        clock: Clock,
        memory: Memory,
        *,
        pageable: Mapping[int, int],
        forwards: Forwards,
        tensors: Sequence[int] = (),
        early: int | None = None,
        grain: int = 0,
    ) -> None:
        """``order``: in which blocks run, by number; ``pageable``: how many bytes of each are not registered,
        of those of which any are not; ``forwards``: what was written down before; ``tensors``: how many there
        are in each, () where that is not known; the rest as for ``DeviceWeights``."""
        self._name = name
        self._sizes = (blocks.fixed, *blocks.streamable)
        self._order = order
        self._clock = clock
        self._memory = memory
        self._pageable = pageable
        self._tensors = tensors or (0,) * len(self._sizes)
        self._forwards = forwards
        self._deeds: list[Deed] | None = None
        """Of the forward that is being written down."""
        self._like = self._sizes, tuple(self._tensors), tuple(pageable.items())
        self._bound: set[int] = set()
        self._early = early
        self.partial = True
        ring = self._ring_of(split)
        stay = [n for n in range(len(self._sizes)) if n not in ring and (self._sizes[n] or not n)]
        cuts = [
            *(range(grain, blocks.bytes, grain) if grain else ()),
            *([] if early is None else [early]),
        ]
        self._pieces = Pieces(((n, self._sizes[n]) for n in stay), cuts)
        self._stepper = Stepper(ring, self)
        self._stepper.missing = set(stay)
        self._stepper.follow(order)
        self._taken: list[int] = []
        self._ring_taken = 0
        self._arrivals: dict[int, float] = {}
        self._free_since = 0.0

    # -- coming and leaving

    def begin(self) -> None:
        """The first copies are queued. Raises ``NoMemory``; then ``release`` is due."""
        if self._early is None:
            self.complete()
            return
        for piece, size in enumerate(self._pieces.sizes[: self._pieces.within(self._early)]):
            self._taken.append(self._take(size))
            for index in self._pieces.inside(piece):
                self._stepper.fetch(index)

    def complete(self) -> None:
        """All of it gets its place. Raises ``NoMemory`` with what was there as it was."""
        more: list[int] = []
        try:
            for size in self._pieces.sizes[len(self._taken) :]:
                more.append(self._take(size))
            if self._stepper.ring.room:
                self._ring_taken = self._take(self._stepper.ring.room)
        except NoMemory:
            for size in more:
                self._memory.free(size, self._clock.compute)
            raise
        self._taken += more
        self.partial = False
        self._stepper.fetch(FIXED)
        self._stepper.look_ahead()

    def shed(self, nbytes: int) -> None:
        """As ``DeviceWeights.shed``."""
        core = self._pieces.left(len(self._taken), nbytes - self._stepper.ring.room)
        if core < len(self._taken) or self._stepper.ring.places:
            self._withdraw(core)

    def grows(self, split: Split | None) -> bool:
        """Whether more of it would stay by ``split``, and all that stays now."""
        return self._ring_of(split).places.keys() < self._stepper.ring.places.keys()

    def grow(self, split: Split | None) -> None:
        """More of it stays, once ``complete`` has fetched it."""
        self._withdraw(len(self._taken))
        before, ring = self._stepper.ring, self._ring_of(split)
        more = [index for index in before.places if index not in ring]
        self._pieces.add((index, self._sizes[index]) for index in more)
        self._stepper.ring = ring
        self._stepper.missing.update(more)
        self._stepper.follow(self._order)

    def release(self) -> None:
        """What it holds is freed once its copies are done."""
        self._unbind([*self._bound])
        for size in (*self._taken, *([self._ring_taken] if self._ring_taken else [])):
            self._memory.free(size, self._clock.compute)
        self._taken, self._ring_taken = [], 0

    def restart(self, clock: Clock) -> None:
        """Another call begins: what is there is there from its start."""
        self._clock = clock
        self._arrivals.clear()
        self._free_since = 0.0

    def later(self, seconds: float) -> None:
        """All that is known of it is as much later: a forward was like the one before."""
        self._arrivals = {index: at + seconds for index, at in self._arrivals.items()}
        self._free_since += seconds

    # -- in use

    def forward(self, work: Sequence[Work], *, last: bool) -> None:
        """One. ``last``: none follows it before the component leaves, so that nothing is fetched for one."""
        stepper, forwards = self._stepper, self._forwards
        if (order := forwards.order_of(work)) != self._order:
            self._order = order
            stepper.begin()
            stepper.follow(order)
            self._lay_ring()
        key = (id(work), last, self._like, self._state)
        tape = forwards.tapes.get(key)
        if tape is None:
            tape = self._written_down(work, last=last)
            forwards.keep(key, tape)
        else:
            stepper.restart()
            self._bound, stepper.missing, stepper.current = {*tape.bound}, {*tape.missing}, tape.current
            stepper.ring.become(tape.ring)
        self._free_since = self._clock.does(self._name, tape.deeds, self._arrivals, self._free_since)

    def settle(self) -> None:
        """What stays is there."""
        for index in sorted(self._stepper.missing):
            self._stepper.fetch(index)
        for index in self._pieces.offsets:
            self.arrive(index)

    @property
    def nbytes(self) -> int:
        """Bytes that are held for it now."""
        ring = self._stepper.ring.room if self._ring_taken else 0
        return sum(self._pieces.sizes[: len(self._taken)]) + ring

    @property
    def full(self) -> int:
        """Bytes that it holds once it is complete."""
        return self._pieces.nbytes + self._stepper.ring.room

    @property
    def position(self) -> tuple[object, ...]:
        """Which blocks are there, or missing, and which ran last."""
        stepper = self._stepper
        return (stepper.current, stepper.ring.there, len(stepper.missing), len(self._bound), self.nbytes)

    @property
    def stays(self) -> set[int]:
        """The blocks that stay, as ``DeviceWeights.stays``."""
        return {n - 1 for n in range(1, len(self._sizes)) if n not in self._stepper.ring}

    # -- what the stepper asks

    def ran(self) -> None:
        """As ``Lanes.ran``."""
        self._do((RAN,))

    def fetch(self, index: int) -> None:
        """As ``Lanes.fetch``."""
        self._copy(index, over=False)

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        """As ``Lanes.fetch_into_ring``."""
        self._unbind(overwritten)
        self._copy(index, over=True)

    def arrive(self, index: int) -> None:
        """As ``Lanes.arrive``. What is in its module was waited for."""
        if index not in self._bound:
            self._bound.add(index)
            self._do((WAITS, index))
            self._do((HANDLES, BIND * self._tensors[index]))

    # -- inside

    @property
    def _state(self) -> Hashable:
        """With its sizes and order: all that decides what a forward does, and not when."""
        stepper = self._stepper
        missing = (frozenset(stepper.missing), stepper.order) if stepper.missing else None
        places = tuple(stepper.ring.places.items()), tuple(self._pieces.offsets)
        return places, stepper.current, missing, stepper.ring.there, frozenset(self._bound)

    def _written_down(self, work: Sequence[Work], *, last: bool) -> Tape:
        """What a forward does, and how it leaves the blocks: by the rules, which ask for no time."""
        stepper, self._deeds = self._stepper, []
        try:
            stepper.begin()
            self.arrive(FIXED)
            for stretch in work:
                if stretch.block != FIXED and stretch.block != stepper.current:
                    stepper.turn(stretch.block, wrap=not last)
                self._do((COMPUTES, stretch.seconds, stretch.operations))
            self.settle()
            deeds = tuple(self._deeds)
        finally:
            self._deeds = None
        return Tape(
            deeds=deeds,
            current=stepper.current,
            missing=frozenset(stepper.missing),
            ring=stepper.ring.there,
            bound=frozenset(self._bound),
        )

    def _do(self, deed: Deed) -> None:
        """Now, or when the forward that is written down is done."""
        if self._deeds is not None:
            self._deeds.append(self._forwards.same(deed))
        else:
            self._free_since = self._clock.does(self._name, (deed,), self._arrivals, self._free_since)

    def _unbind(self, indices: Iterable[int]) -> None:
        gone = self._bound.intersection(indices)
        self._bound -= gone
        if gone:
            self._do((HANDLES, UNBIND * sum(self._tensors[index] for index in gone)))

    def _copy(self, index: int, *, over: bool) -> None:
        if self._sizes[index]:
            apart = self._pageable.get(index, 0)
            for nbytes, pinned in ((self._sizes[index] - apart, True), (apart, False)):
                if nbytes:
                    self._do((COPIES, index, over, nbytes, pinned))

    def _take(self, nbytes: int) -> int:
        size = self._memory.alloc(nbytes)
        self._clock.unmaps(*self._memory.unmapped())
        self._clock.maps(size)
        self._free_since = self._clock.compute
        return size

    def _ring_of(self, split: Split | None) -> Ring:
        stay = (True,) * (len(self._sizes) - 1) if split is None else split.stay
        comes = {n for n, stays in enumerate(stay, 1) if not stays}
        order = [n for n in dict.fromkeys((*self._order, *range(1, len(self._sizes)))) if n in comes]
        return Ring({n: self._sizes[n] for n in order}, 0 if split is None else split.buffer)

    def _lay_ring(self) -> None:
        """As ``DeviceWeights`` does, where blocks run in another order than before."""
        before = self._stepper.ring
        ring = before.laid_for(self._order)
        if ring is not before:
            self._unbind([*before.places])
            self.ran()
            self._stepper.ring = ring
            self._stepper.look_ahead()

    def _withdraw(self, core: int) -> None:
        gone = self._pieces.after(core)
        self._unbind((*gone, *self._stepper.ring.places))
        for size in (*self._taken[core:], *([self._ring_taken] if self._ring_taken else [])):
            self._memory.free(size, self._clock.compute)
        self._taken, self._ring_taken = self._taken[:core], 0
        self._stepper.missing |= gone
        self._stepper.ring.clear()
        self._stepper.restart()
        self._stepper.follow(self._order)
        self.partial = True
