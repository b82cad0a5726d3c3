"""What is allocated and computed, as one use goes on: the events and operations of a profile.

Storages are followed by weak references: what a forward pass no longer refers to is free, as with torch's
own allocator.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any

import torch

from planner.predict.profile import Operation, Section

ROUND = 512
"""Bytes to whose multiples torch's allocator rounds (``kMinBlockSize``)."""


def rounded(size: int) -> int:
    """``size`` bytes as torch's allocator takes them."""
    return -(-size // ROUND) * ROUND


class Ledger:
    """One use at a time: ``begin`` empties it. Storages that were there before are known and not counted."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._lasting: dict[int, int] = {}
        """Bytes of storages that a use allocated, as long as they live."""
        self.open = False
        self.block = ""
        self._clear()

    def _clear(self) -> None:
        self.events: list[int] = []
        self.scratch: set[int] = set()
        self.notes: set[str] = set()
        self.live = 0
        self._made = 0
        self._sizes: list[int] = []
        self._operations: dict[Hashable, int] = {}
        self._table: list[Operation] = []
        self._sections: list[tuple[str, dict[int, int]]] = []

    def begin(self) -> None:
        """What was allocated before belongs to no use from now on."""
        self._numbers.clear()
        self._clear()
        self.open = True

    def end(self) -> None:
        """Nothing is written any more."""
        self.open = False

    def know(self, meta: torch.Tensor) -> int:
        """Bytes of a storage that was there before, 0 if it was known."""
        storage = meta.untyped_storage()
        if storage._cdata in self._known:
            return 0
        self._follow(storage)
        return rounded(storage.nbytes())

    def see(self, meta: torch.Tensor) -> None:
        """Allocates the storage of ``meta`` unless it is known."""
        storage = meta.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._follow(storage)
        size = rounded(storage.nbytes())
        if self.open and size:
            self._numbers[key] = self._allocate(size)
            self._lasting[key] = size

    def borrow(self, size: int, *, spare: bool = False) -> None:
        """``size`` bytes that a kernel takes and gives back. ``spare``: it can do without."""
        if not self.open or size <= 0:
            return
        number = self._allocate(rounded(size))
        if spare:
            self.scratch.add(number)
        self._free(number)

    def count(self, kind: Any, dtype: str, flops: int, size: int, shape: tuple[int, ...] = ()) -> None:
        """One more operation in the block that runs."""
        if not self.open:
            return
        key = (kind, dtype, flops, size, shape)
        at = self._operations.get(key)
        if at is None:
            at = self._operations[key] = len(self._table)
            self._table.append(Operation(kind, dtype, flops, size, shape))
        if not self._sections or self._sections[-1][0] != self.block:
            self._sections.append((self.block, {}))
        work = self._sections[-1][1]
        work[at] = work.get(at, 0) + 1

    def assume(self, what: str) -> None:
        """Says in the profile what had to be assumed."""
        if self.open:
            self.notes.add(what)

    @property
    def lasting(self) -> int:
        """Bytes that uses allocated, of this one and of those before, and that are referred to now."""
        return sum(self._lasting.values())

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that were counted, each once."""
        return tuple(self._table)

    @property
    def sections(self) -> tuple[Section, ...]:
        """In the order in which they ran."""
        return tuple(Section(block, tuple(work.items())) for block, work in self._sections)

    def _allocate(self, size: int) -> int:
        number = self._made
        self._made += 1
        self._sizes.append(size)
        self.events.append(size)
        self.live += size
        return number

    def _free(self, number: int) -> None:
        self.events.append(number - self._made)
        self.live -= self._sizes[number]

    def _follow(self, storage: Any) -> None:
        key = storage._cdata
        self._known[key] = weakref.ref(storage, lambda gone: self._gone(key, gone))

    def _gone(self, key: int, reference: Any) -> None:
        if self._known.get(key) is not reference:
            return
        del self._known[key]
        self._lasting.pop(key, None)
        number = self._numbers.pop(key, None)
        if number is not None and self.open:
            self._free(number)
