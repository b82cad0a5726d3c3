"""What lies on the virtual accelerator: one block a storage, counted while somebody holds it.

A real card's allocator keeps freed memory for reuse; this one returns it at once, so that ``allocated``
and ``reserved`` are one figure and a peak is never an artefact of fragments.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from threading import Lock
from typing import Any, Protocol

import torch

TOTAL = 80 * 2**30
"""Bytes of memory that the virtual card has until somebody says otherwise."""


class Watched(Protocol):
    """What a block may belong to: it is told of every tensor over the bytes and every use of them."""

    def hold(self, tensor: Any) -> None:
        """``tensor`` lies over its bytes from now on, until it is gone."""

    def touch(self, elem: torch.Tensor, op: str) -> None:
        """An operation ``op`` reads or writes the bytes of ``elem``, a CPU view of the memory."""


class Meter:
    """Bytes in live blocks. ``total`` is the card's size, ``limit`` what may be used of it, ``peak`` the most
    since somebody set it back, and ``high`` the most of what is no session's piece.

    A block is given back by its finalizer, which the garbage collector runs wherever a thread is, also
    within these methods: it takes no lock and changes no figure, and what it gave is counted out later.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counted = 0
        self._pieces = 0
        self._given: deque[tuple[int, bool]] = deque()
        self.restarts = 0
        self.peak = 0
        self.high = 0
        self.refused = 0
        self.total = TOTAL
        self.limit: int | None = None

    @property
    def allocated(self) -> int:
        """Bytes in live blocks."""
        with self._lock:
            self._settle()
            return self._counted

    @property
    def beside(self) -> int:
        """Those of them that are no session's pieces."""
        with self._lock:
            self._settle()
            return self._counted - self._pieces

    def restart(self) -> None:
        """As a new card: what somebody still holds is counted no more, nor when it goes. No limit."""
        with self._lock:
            self.restarts += 1
            self._given.clear()
            self._counted = self._pieces = self.peak = self.high = 0
            self.limit = None

    def take(self, nbytes: int, *, piece: bool = False) -> None:
        """Count ``nbytes`` in, of a session's ``piece`` or not. Raises torch's OutOfMemoryError where they
        pass the limit."""
        ceiling = self.total if self.limit is None else min(self.limit, self.total)
        with self._lock:
            self._settle()
            while self._counted + nbytes > ceiling:
                if self._settle():  # of what was given since
                    continue
                self.refused += 1
                raise torch.OutOfMemoryError(
                    f"sim out of memory. Tried to allocate {nbytes} bytes. sim:0 has a capacity of {ceiling} "
                    f"bytes of which {ceiling - self._counted} bytes is free"
                )
            self._counted += nbytes
            self._pieces += nbytes * piece
            self.peak = max(self.peak, self._counted)
            self.high = max(self.high, self._counted - self._pieces)

    def give(self, nbytes: int, *, piece: bool = False) -> None:
        """Count ``nbytes`` out, which were taken so."""
        self._given.append((nbytes, piece))

    def _settle(self) -> bool:
        """Count out what was given; whether there was any. By who has the lock."""
        any_given = bool(self._given)
        while self._given:
            nbytes, piece = self._given.popleft()
            self._counted -= nbytes
            self._pieces -= nbytes * piece
        return any_given


METER = Meter()
"""The process has one virtual card, so one meter."""


class Block:
    """One storage on the card; every view of it holds the same block, and the last to go frees it.

    ``owner`` is the piece that the bytes belong to, or None for what operations made themselves;
    ``serial`` tells blocks apart when an address is used again.
    """

    __slots__ = ("__weakref__", "_counted", "_restarts", "nbytes", "owner", "serial")

    _serials = count(1)

    def __init__(self, nbytes: int, owner: Watched | None = None, *, counted: bool = True) -> None:
        self._counted = False
        self.nbytes = nbytes
        self.owner = owner
        self.serial = next(Block._serials)
        if counted:
            self.take()

    def resize(self, nbytes: int) -> None:
        """The storage grew or shrank under its tensors (``resize_``)."""
        if self._counted and self._restarts == METER.restarts and nbytes != self.nbytes:
            METER.take(nbytes, piece=self.owner is not None)
            METER.give(self.nbytes, piece=self.owner is not None)
        self.nbytes = nbytes

    def take(self) -> None:
        """Count it, again after ``release``. Raises torch's OutOfMemoryError where it passes the limit."""
        self._restarts = METER.restarts
        METER.take(self.nbytes, piece=self.owner is not None)
        self._counted = True

    def release(self) -> None:
        """Stop counting, though somebody may still hold a tensor over the bytes."""
        if self._counted:
            self._counted = False
            if self._restarts == METER.restarts:
                METER.give(self.nbytes, piece=self.owner is not None)

    def __del__(self) -> None:
        if hasattr(self, "_counted"):  # torch's compiler makes objects without __init__, to look at them
            self.release()
