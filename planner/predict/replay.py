"""A use's allocations through the allocator's model: what it takes, allocated and reserved, at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.predict.allocator import Allocator, Block, NoRoom
from planner.predict.between import Between, Turn
from planner.predict.rounds import Rounds


class Use(Protocol):
    """What is played of ``planner.predict.profile.UseProfile``, which has it in bytes."""

    @property
    def inputs(self) -> int:
        """See there."""

    @property
    def events(self) -> tuple[int, ...]:
        """See there."""

    @property
    def scratch(self) -> frozenset[int]:
        """See there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Bytes beyond what was there before: ``allocated`` at most, ``reserved`` at most, ``asked``: what a cap
    must leave for them, and ``kept``, reserved when all was freed. ``retries``: how often the cache was given
    back for want of room."""

    allocated: int
    reserved: int
    asked: int
    kept: int
    retries: int = 0


def play(allocator: Allocator, use: Use, *, scratch: bool = True) -> list[Block]:
    """The events of ``use``; gives the blocks that it leaves, its output among them. ``scratch``: False
    takes none of what libraries can do without; none is taken either where it finds no room, as a library
    then runs another kernel. Raises NoRoom for anything else, with what the use had allocated freed.
    """
    live: list[Block | None] = []
    try:
        for event in use.events:
            if event > 0:
                live.append(_one(allocator, event, spare=len(live) in use.scratch, scratch=scratch))
            else:
                block = live[event]
                if block is not None:
                    allocator.free(block)
                    live[event] = None
    except BaseException:
        release(allocator, live)
        raise
    return [block for block in live if block is not None]


def release(allocator: Allocator, blocks: list[Block | None] | list[Block]) -> None:
    """Frees them, in their order."""
    for block in blocks:
        if block is not None:
            allocator.free(block)


def peak_of(
    use: Use, allocator: Allocator | None = None, *, scratch: bool = True, inputs: bool = False
) -> Peak:
    """One ``use`` from what ``allocator`` holds, or from an empty cache; what it leaves is freed.
    ``inputs``: as one block, allocated before. The allocator keeps its cache, for the use after it. Raises
    NoRoom."""
    there = Allocator() if allocator is None else allocator
    given = [there.alloc(use.inputs)] if inputs and use.inputs else []
    there.reset_peak()
    allocated, reserved, retries = there.allocated, there.reserved, there.retries
    try:
        release(there, play(there, use, scratch=scratch))
    finally:
        release(there, given)
    return Peak(
        allocated=there.peak_allocated - allocated,
        reserved=there.peak_reserved - reserved,
        asked=there.peak_asked - reserved,
        kept=there.reserved - reserved,
        retries=there.retries - retries,
    )


def rooms(turns: Sequence[tuple[Turn, str, Use]], workspace: int) -> dict[str, int]:
    """Of each component, the bytes that an allocator asks for while the ``turns`` of a call follow each
    other, each with its component and use; ``workspace``: held all along. What one use leaves in the cache
    seldom fits another one whose shapes are a little different, and what the pipeline keeps between them cuts
    it into pieces. What other components left in the cache is given back first, as a session does where
    there is too little."""
    allocator = Allocator(expandable=True)
    if workspace:
        allocator.alloc(workspace)
    between, rounds, upto = Between(allocator), Rounds(turns), 0
    found: dict[str, int] = {}
    runs = ""
    for at, (turn, component, use) in enumerate(turns):
        if at < upto or (upto := rounds.alike(at, (runs, allocator.state))) > at:
            continue
        between.upto(turn)
        if component != runs:
            allocator.empty_cache()
        runs = component
        allocator.reset_peak()
        between.used(play(allocator, use))
        found[component] = max(found.get(component, 0), allocator.peak_asked)
    return found


def _one(allocator: Allocator, size: int, *, spare: bool, scratch: bool) -> Block | None:
    if not spare:
        return allocator.alloc(size)
    if not scratch:
        return None
    try:
        return allocator.alloc(size)
    except NoRoom:
        return None
