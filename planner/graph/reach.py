"""What follows what in the walk, as one bit a stage.

Hundreds of stages that wait for nothing are pairs by the ten thousand; a search from each takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Edge = tuple[str, str]


class Reach:
    """``ids`` in an order that the ``edges`` allow, as the walk is."""

    def __init__(self, ids: Sequence[str], edges: Iterable[Edge]) -> None:
        self._ids = ids
        at = {name: i for i, name in enumerate(ids)}
        self._next: list[list[int]] = [[] for _ in ids]
        for a, b in edges:
            self._next[at[a]].append(at[b])
        self._after = [0] * len(ids)
        for i in reversed(range(len(ids))):
            for j in self._next[i]:
                self._after[i] |= self._after[j] | 1 << j

    def reduced(self) -> Iterator[Edge]:
        """The edges without those that a longer path says too."""
        for i, nexts in enumerate(self._next):
            covered = 0
            for j in sorted({*nexts}):
                if not covered >> j & 1:
                    yield self._ids[i], self._ids[j]
                covered |= self._after[j]

    def unordered(self) -> Iterator[Edge]:
        """The pairs that no path orders, in the order of the walk."""
        for i, after in enumerate(self._after):
            for j in range(i + 1, len(self._ids)):
                if not after >> j & 1:
                    yield self._ids[i], self._ids[j]
