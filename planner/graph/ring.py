"""Which blocks lie in a streamed component's ring of device memory, and where."""

from __future__ import annotations

from collections.abc import Mapping


class Ring:
    """Blocks by index, each at a place of its own in ``room`` bytes, one after the other and again from the
    start when the next would not fit; where three of the largest do not fit, at the two ends in turn, so that
    none reaches into the place of the one before. ``sizes``: bytes of each block, in the order in which they
    run."""

    def __init__(self, sizes: Mapping[int, int], room: int) -> None:
        """Every block must fit in ``room`` by itself."""
        self.room = room
        self.places: dict[int, int] = {}
        self._sizes = sizes
        self._there: dict[int, None] = {}
        self._ahead: set[int] = set()
        self._overlaps: dict[int, tuple[frozenset[int], tuple[int, ...]]] = {}
        """By block, those whose places it reaches into, itself among them, as a set and in the order in which
        they run: worked out when first asked."""
        at, few = 0, room < 3 * max(sizes.values(), default=0)
        for turn, (index, nbytes) in enumerate(sizes.items()):
            if few:
                at = (room - nbytes) * (turn % 2)
            elif at + nbytes > room:
                at = 0
            self.places[index] = at
            at += nbytes

    def __contains__(self, index: object) -> bool:
        """Whether the block is one that comes and goes."""
        return index in self.places

    def clear(self) -> None:
        """No block lies there."""
        self._there.clear()
        self._ahead.clear()

    @property
    def there(self) -> tuple[int, ...]:
        """The blocks that are there, or on their way, as they came."""
        return tuple(self._there)

    def has(self, index: int) -> bool:
        """It is there, or on its way."""
        return index in self._there

    def free(self, index: int, current: int | None) -> bool:
        """Neither the block that runs now (``current``) nor one that was fetched to run next lies where it
        would."""
        below, _ = self._reached(index)
        return self._ahead.isdisjoint(below) and not (current in below and current in self._there)

    def take(self, index: int, *, ahead: bool) -> list[int]:
        """It lies there now. Returns those that it wrote over. ``ahead``: it was fetched to run later."""
        gone = self._below(index)
        for other in gone:
            del self._there[other]
            self._ahead.discard(other)
        self._there[index] = None
        if ahead:
            self._ahead.add(index)
        return gone

    def runs(self, index: int) -> None:
        """Its turn has come."""
        self._ahead.discard(index)

    def _below(self, index: int) -> list[int]:
        return [n for n in self._reached(index)[1] if n in self._there]

    def _reached(self, index: int) -> tuple[frozenset[int], tuple[int, ...]]:
        found = self._overlaps.get(index)
        if found is None:
            start, end = self._span(index)
            others = tuple(n for n in self.places if self._span(n)[0] < end and start < self._span(n)[1])
            found = self._overlaps[index] = frozenset(others), others
        return found

    def _span(self, index: int) -> tuple[int, int]:
        return self.places[index], self.places[index] + self._sizes[index]
