"""The rules by which blocks come to the device during a forward: run on a clock when the compiler chooses
what stays resident, on a device when the component is in use. There is no other copy of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

from planner.graph.ring import Ring


class Lanes(Protocol):
    """What the rules ask of a device, or of a clock."""

    def ran(self) -> None:
        """Whatever ran last may still read its place in the ring: the next copy into the ring waits for
        it."""

    def fetch(self, index: int) -> None:
        """Queue the copy of a block that stays resident."""

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        """Queue the copy of a block into its place in the ring, over the blocks ``overwritten``."""

    def arrive(self, index: int) -> None:
        """Computing goes on once the copy of a block is done."""


class Stepper:
    """One component's blocks, by index, in the order of their turns: a block may have several in a forward.

    Invariants: a block is in ``ring`` or stays resident, never both; ``missing`` are the resident ones that
    were not fetched yet; ``current`` is the block that runs now, None before the first of a forward; ``_at``
    is its turn's place in the order, or that of the last turn whose block is in it, -1 before the first.
    """

    def __init__(self, ring: Ring, lanes: Lanes) -> None:
        """Nothing is fetched yet. ``follow`` says in which order blocks run."""
        self.ring = ring
        self.missing: set[int] = set()
        self.current: int | None = None
        self._lanes = lanes
        self._at = -1
        self._ran: set[int] = set()
        """The blocks that had a turn in this forward."""
        self._again = False
        """The last turn was of one of those, and in the order there is none of it any more."""
        self._turns: dict[int, list[int]] = {}
        """Of each block, its turns' places in the order."""
        self._order: list[int] = []
        self._after = [0]
        """How many of ``_order`` have run before the first turn, after it, after the second, ..."""
        self._coming: list[int] = []
        self._then = [0]
        """As ``_order`` and ``_after``, of the ring's blocks alone: what matters once none is missing."""

    @property
    def order(self) -> tuple[int, ...]:
        """In which blocks run that come, or were missing when it was said."""
        return tuple(self._order)

    def follow(self, order: Iterable[int]) -> None:
        """Blocks run in this ``order``, again and again."""
        self._turns, self._at = {}, -1
        self._order, self._after = [], [0]
        self._coming, self._then = [], [0]
        for at, index in enumerate(order):
            self._turns.setdefault(index, []).append(at)
            if index in self.ring:
                self._coming.append(index)
            if index in self.ring or index in self.missing:
                self._order.append(index)
            self._after.append(len(self._order))
            self._then.append(len(self._coming))
            if index == self.current:
                self._at = at

    def begin(self) -> None:
        """A forward does: the next turn is its first."""
        if self.current in self.ring.places:
            self._lanes.ran()
        self.restart()

    def restart(self) -> None:
        """As ``begin``, where nothing reads the ring any more."""
        self.current, self._at, self._again = None, -1, False
        self._ran.clear()

    def turn(self, index: int, *, wrap: bool = True) -> bool:
        """Block ``index`` begins: it is there, and the next ones are on their way, when this returns.
        ``wrap``: another forward follows this one. Whether the block was not there in time, because the order
        was another, or its place another's until now."""
        before, self.current, places = self.current, index, self.ring.places
        if turns := self._turns.get(index):
            later = bisect_right(turns, self._at)
            # Once more than was known, what follows it has run; two of those in a row begin the order again.
            self._again = later == len(turns) and index in self._ran and not self._again
            if not self._again:
                self._at = turns[later % len(turns)]
        self._ran.add(index)
        if before in places:
            self._lanes.ran()
        late = index in places and not self.ring.has(index)
        if late:
            self._lanes.ran()  # blocks of another component may have run there
            self._into_ring(index)
        self.fetch(index)
        self._lanes.arrive(index)
        self.look_ahead(wrap=wrap)
        return late

    def fetch(self, index: int) -> None:
        """Queue the copy of a block that stays, unless that was done."""
        if index in self.missing:
            self._lanes.fetch(index)
            self.missing.discard(index)

    def look_ahead(self, *, wrap: bool = True) -> None:
        """Queue the copies of what runs next, up to the first block whose place is that of one that runs
        now or before it."""
        missing, ring, order, after = self.missing, self.ring, self._order, self._after
        if not missing:
            if not ring.places:
                return  # all of it is there
            order, after = self._coming, self._then
        start = after[self._at + 1]
        needed = {self.current}
        for at in range(start - len(order), start if wrap else 0):  # what is below 0 counts from the end
            index = order[at]
            if index in missing:
                self.fetch(index)
            elif index in ring.places:
                if not ring.has(index):
                    if ring.meets(index, needed):
                        return
                    self._into_ring(index)
                needed.add(index)

    def _into_ring(self, index: int) -> None:
        self._lanes.fetch_into_ring(index, self.ring.take(index))
