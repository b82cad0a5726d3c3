"""What a pipeline itself allocates between the uses of its components, through the allocator's model: where
its tensors lie decides what is left in one piece for the next use."""

from __future__ import annotations

from typing import Protocol

from planner.predict.allocator import ROUND, SMALL, Allocator, Block


class Turn(Protocol):
    """What is played of ``planner.predict.profile.Turn``, which has it in bytes."""

    @property
    def held(self) -> int:
        """See there."""

    @property
    def glue(self) -> tuple[int, ...]:
        """See there."""


class Between:
    """Turn after turn: ``upto`` it, then its use, whose blocks are told by ``used``.

    Invariant: after ``upto`` the blocks in use, but for what others allocated before, are as many bytes as
    the turn says that are held. What of it is in no turn's events was there before the call: one block.
    """

    def __init__(self, allocator: Allocator) -> None:
        """Holds nothing."""
        self._allocator = allocator
        self._made: list[tuple[int, Block] | None] = []
        """By the events, in their order: the bytes that were asked for; None once it was freed."""
        self._bytes = 0
        """That were asked for and not freed."""
        self._before: Block | None = None
        self._left: list[Block] = []
        """By the use that was last."""

    def upto(self, turn: Turn) -> None:
        """Plays what happens until the use of ``turn`` begins. What the use before it left and the pipeline
        keeps, its output, stays where it lies; the rest is freed. No cap stops it: no weights can leave for
        it, and it is told at the use, which needs it too."""
        with self._allocator.uncapped():
            if not self._made:
                self._be_there(turn.held - _live(turn.glue))
            for event in turn.glue:
                if event > 0:
                    self._made.append((event, self._output(event) or self._allocator.alloc(event)))
                    self._bytes += event
                else:
                    self._drop_left()
                    self._free(event)
            self._drop_left()
            self._be_there(turn.held - self._bytes)

    def used(self, left: list[Block]) -> None:
        """The use is over, and left these; what the one before it left is freed, if it is there still."""
        self._drop_left()
        self._left = [*left]

    def end(self) -> None:
        """The call is over: nothing is held any more."""
        self._drop_left()
        self._be_there(0)
        for number in range(1, len(self._made) + 1):
            self._free(-number)
        self._made = []

    def _be_there(self, nbytes: int) -> None:
        """So many bytes, from before the call."""
        size = max(0, -(-nbytes // ROUND) * ROUND)
        if size == (0 if self._before is None else self._before.size):
            return
        if self._before is not None:
            self._allocator.free(self._before)
        self._before = self._allocator.alloc(size) if size else None

    def _output(self, size: int) -> Block | None:
        """Of the blocks that the use left, one of this size; where there is none, they are of no use."""
        fit = [block for block in self._left if 0 <= block.size - size <= SMALL]
        if not fit:
            self._drop_left()
            return None
        block = min(fit, key=lambda block: block.size)
        self._left.remove(block)
        return block

    def _drop_left(self) -> None:
        for block in self._left:
            self._allocator.free(block)
        self._left = []

    def _free(self, event: int) -> None:
        made = self._made[event] if -event <= len(self._made) else None
        if made is not None:
            self._allocator.free(made[1])
            self._bytes -= made[0]
            self._made[event] = None


def _live(glue: tuple[int, ...]) -> int:
    """Bytes in use after these events, of those that they allocate."""
    sizes: list[int] = []
    for event in glue:
        if event > 0:
            sizes.append(event)
        elif -event <= len(sizes):
            sizes[event] = 0
    return sum(sizes)
