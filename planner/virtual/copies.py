"""Copies on their way: queued in order, landed in order, and when is anybody's luck.

A stream is in order, so a copy never lands before one that was queued earlier. A waited-for copy has landed.
In between a card is free, and so is this one: by its seed, a copy lands at once, as late as can be, or at
some operation in between. Without a seed all land as late as can be. A copy reads its source when it lands.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from planner.virtual.own_work import own_work

if TYPE_CHECKING:
    from planner.virtual.piece import SimPiece

LATE = None
WITHIN = 12
"""Operations within which a copy lands that lands neither at once nor late."""


@dataclass(slots=True, eq=False)
class Copy:
    """``source`` to ``piece[start:stop]``; ``position`` on the copy lane. ``left``: operations until it lands
    by itself, or LATE."""

    piece: SimPiece
    start: int
    stop: int
    source: torch.Tensor
    position: int
    left: int | None
    landed: bool = False

    def land(self) -> None:
        """The bytes that the source has now are there. Once."""
        if not self.landed and self.piece.memory is not None:
            with own_work(), torch.no_grad():
                self.piece.memory[self.start : self.stop].copy_(self.source)
        self.landed = True


class Copies:
    """Those of a device that nobody has waited for."""

    def __init__(self, seed: int | None) -> None:
        self._luck = None if seed is None else Random(seed)
        self._queue: deque[Copy] = deque()

    def queue(self, piece: SimPiece, start: int, source: torch.Tensor, position: int) -> None:
        """One more, the last in order."""
        stop = start + source.numel()
        copy = Copy(piece, start, stop, source, position, self._delay())
        piece.pending.append(copy)
        self._queue.append(copy)
        self._land_due()

    def tick(self) -> None:
        """An operation begins."""
        if self._luck is None or not self._queue:
            return
        for copy in self._queue:
            if copy.left:
                copy.left -= 1
        self._land_due()

    def waited(self, position: int) -> None:
        """The compute lane has waited for everything up to ``position`` of the copy lane."""
        while self._queue and self._queue[0].position <= position:
            copy = self._queue.popleft()
            copy.land()
            if copy in copy.piece.pending:
                copy.piece.pending.remove(copy)

    def drop(self, piece: SimPiece) -> None:
        """Its memory is gone; what was on its way lands nowhere."""
        piece.pending.clear()
        self._queue = deque(copy for copy in self._queue if copy.piece is not piece)

    def _delay(self) -> int | None:
        if self._luck is None:
            return LATE
        how = self._luck.choice(("at once", "late", "between"))
        return 0 if how == "at once" else LATE if how == "late" else self._luck.randint(1, WITHIN)

    def _land_due(self) -> None:
        last = max((i for i, copy in enumerate(self._queue) if copy.left == 0), default=-1)
        for copy, _ in zip(self._queue, range(last + 1), strict=False):
            copy.land()
