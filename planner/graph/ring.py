"""Which blocks lie in a streamed component's ring of device memory, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Ring:
    """Blocks by index, each at a place of its own in ``room`` bytes, one after the other and again from the
    start when the next would not fit; where three of the largest do not fit, at the two ends in turn, so that
    none reaches into the place of the one before. ``sizes``: bytes of each block, in the order in which they
    run."""

    def __init__(self, sizes: Mapping[int, int], room: int) -> None:
        """Every block must fit in ``room`` by itself."""
        self.room = room
        self.places: dict[int, int] = {}
        self._there: dict[int, None] = {}
        self._spans: dict[int, tuple[int, int, int]] = {}
        """By block, where its place begins and ends, and the how manyth it runs."""
        at, few = 0, room < 3 * max(sizes.values(), default=0)
        for turn, (index, nbytes) in enumerate(sizes.items()):
            if few:
                at = (room - nbytes) * (turn % 2)
            elif at + nbytes > room:
                at = 0
            self.places[index] = at
            self._spans[index] = at, at + nbytes, turn
            at += nbytes

    def __contains__(self, index: object) -> bool:
        """Whether the block is one that comes and goes."""
        return index in self.places

    def clear(self) -> None:
        """No block lies there."""
        self._there.clear()

    def laid_for(self, order: Iterable[int]) -> Ring:
        """An empty one of the same blocks and room, for the ``order`` in which they run; itself where their
        places are the same. By another order, blocks that follow each other may lie at one place, and the
        copy of each waits until the one before has run."""
        sizes = {index: end - start for index, (start, end, _) in self._spans.items()}
        first = [index for index in dict.fromkeys(order) if index in sizes]
        made = Ring({index: sizes[index] for index in dict.fromkeys((*first, *sizes))}, self.room)
        return self if made.places == self.places else made

    def become(self, there: Iterable[int]) -> None:
        """As it was when these blocks were ``there``, of this ring or of another one with these places."""
        self._there = dict.fromkeys(there)

    @property
    def there(self) -> tuple[int, ...]:
        """The blocks that are there, or on their way, as they came."""
        return tuple(self._there)

    def has(self, index: int) -> bool:
        """It is there, or on its way."""
        return index in self._there

    def meets(self, index: int, others: Iterable[int | None]) -> bool:
        """Whether any of ``others`` that are there lies where it would."""
        start, end, _ = self._spans[index]
        for other in others:
            if other in self._there:
                begin, stop, _ = self._spans[other]
                if begin < end and start < stop:
                    return True
        return False

    def take(self, index: int) -> list[int]:
        """It lies there now. Returns those that it wrote over."""
        gone = self._below(index)
        for other in gone:
            del self._there[other]
        self._there[index] = None
        return gone

    def _below(self, index: int) -> list[int]:
        """Those that lie where it would, in the order in which they run. Few lie there at any time, and many
        would if each were asked where it reaches."""
        start, end, _ = self._spans[index]
        gone = []
        for other in self._there:
            begin, stop, turn = self._spans[other]
            if begin < end and start < stop:
                gone.append((turn, other))
        return [other for _, other in sorted(gone)]
