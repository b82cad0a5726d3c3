"""The rules by which blocks come to the device during a forward: run on a clock when the compiler chooses
what stays resident, on a device when the component is in use. There is no other copy of them."""

from __future__ import annotations

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
    """One component's blocks, by index, in the order in which they run.

    Invariants: a block is in ``ring`` or stays resident, never both; ``missing`` are the resident ones that
    were not fetched yet; ``current`` is the block that runs now, None before the first.
    """

    def __init__(self, ring: Ring, lanes: Lanes) -> None:
        """Nothing is fetched yet. ``follow`` says in which order blocks run."""
        self.ring = ring
        self.missing: set[int] = set()
        self.current: int | None = None
        self._lanes = lanes
        self._order: list[int] = []
        self._after: dict[int | None, int] = {}
        self._coming: list[int] = []
        self._then: dict[int | None, int] = {}
        """As ``_order`` and ``_after``, of the ring's blocks alone: what matters once none is missing."""

    @property
    def order(self) -> tuple[int, ...]:
        """In which blocks run that come, or were missing when it was said."""
        return tuple(self._order)

    def follow(self, order: Iterable[int]) -> None:
        """Blocks run in this ``order``, again and again."""
        self._order, self._after = [], {}
        self._coming, self._then = [], {}
        for index in order:
            if index in self.ring:
                self._coming.append(index)
            if index in self.ring or index in self.missing:
                self._order.append(index)
            self._after[index], self._then[index] = len(self._order), len(self._coming)

    def turn(self, index: int, *, wrap: bool = True) -> bool:
        """Block ``index`` begins: it is there, and the next ones are on their way, when this returns.
        ``wrap``: another forward follows this one. Whether the block was not there in time, because the order
        was another."""
        before, self.current, places = self.current, index, self.ring.places
        if before in places:
            self._lanes.ran()
        late = index in places and not self.ring.has(index)
        if late:
            self._lanes.ran()  # blocks of another component may have run there
            self._into_ring(index, ahead=False)
        self.fetch(index)
        self.ring.runs(index)
        self._lanes.arrive(index)
        self.look_ahead(wrap=wrap)
        return late

    def fetch(self, index: int) -> None:
        """Queue the copy of a block that stays, unless that was done."""
        if index in self.missing:
            self._lanes.fetch(index)
            self.missing.discard(index)

    def look_ahead(self, *, wrap: bool = True) -> None:
        """Queue the copies of what runs next, up to the first block whose place is not free yet."""
        missing, ring, order, after = self.missing, self.ring, self._order, self._after
        if not missing:
            if not ring.places:
                return  # all of it is there
            order, after = self._coming, self._then
        start = after.get(self.current, 0)
        for at in range(start - len(order), start if wrap else 0):  # what is below 0 counts from the end
            index = order[at]
            if index in missing:
                self.fetch(index)
            elif index in ring.places and not ring.has(index):
                if not ring.free(index, self.current):
                    return
                self._into_ring(index, ahead=True)

    def _into_ring(self, index: int, *, ahead: bool) -> None:
        self._lanes.fetch_into_ring(index, self.ring.take(index, ahead=ahead))
