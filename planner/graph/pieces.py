"""What stays of a component on the device, in pieces: some may come early, and the last may be
evicted before the others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate


class Pieces:
    """``offsets``: by batch, its piece and the offset in it. ``sizes``: bytes of each piece."""

    def __init__(self, batches: Iterable[tuple[int, int]], cuts: Iterable[int]) -> None:
        """``batches``: numbers and bytes, in their order; no piece lies across any of the ``cuts``, in bytes
        from the first batch on, but where a batch does."""
        self.offsets: dict[int, tuple[int, int]] = {}
        self.sizes: list[int] = []
        self._cuts = sorted(cuts)
        self.add(batches)

    def add(self, batches: Iterable[tuple[int, int]]) -> None:
        """More of them, from the next piece on."""
        at = self.nbytes
        self.sizes.append(0)
        for number, nbytes in batches:
            if self.sizes[-1] and bisect_left(self._cuts, at) < bisect_left(self._cuts, at + nbytes):
                self.sizes.append(0)
            self.offsets[number] = (len(self.sizes) - 1, self.sizes[-1])
            self.sizes[-1] += nbytes
            at += nbytes

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(self.sizes)

    def within(self, nbytes: int) -> int:
        """How many lie in the first ``nbytes``."""
        return sum(end <= nbytes for end in accumulate(self.sizes))

    def left(self, count: int, nbytes: int) -> int:
        """How many of the first ``count`` are left when the last of them give ``nbytes``; one always is."""
        while nbytes > 0 and count > 1:
            count -= 1
            nbytes -= self.sizes[count]
        return count

    def after(self, count: int) -> set[int]:
        """The batches that do not lie in the first ``count``."""
        return {number for number, (piece, _) in self.offsets.items() if piece >= count}

    def inside(self, piece: int) -> list[int]:
        """The batches that lie in it, in their order."""
        return [number for number, (where, _) in self.offsets.items() if where == piece]
