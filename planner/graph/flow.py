"""How long one forward of a streamed component takes: its copies and its computing, played.

A copy waits for the one before it and for the block whose place it takes; a block computes once it is there
and the one before it is done. The rules are those of ``planner.graph.stepping``, which a session runs on a
device."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from planner.graph.model import LINK, Placement
from planner.graph.ring import Ring
from planner.graph.split import PREFETCH, Split, fitted, split
from planner.graph.stepping import Stepper
from planner.target.model import Blocks

FORWARDS = 3
SHARES = (0.0, 0.5, 0.75, 1.0)


def quickest(
    blocks: Blocks,
    room: int,
    depths: Sequence[int],
    pace: Mapping[int, float],
    anyway: Collection[int] = (),
    link: float = LINK,
) -> Split | None:
    """The split of at most ``room`` bytes whose forward is the shortest, of those in which the blocks
    ``anyway`` stay; None where none fits.

    ``depths``: how many blocks may come ahead, the first where nothing is known; ``pace``: seconds that each
    block computes, by its number, in the order in which they run; ``link``: bytes a second to the device.
    """
    return _once(blocks, room, tuple(depths), tuple(pace.items()), tuple(sorted(anyway)), link)


@lru_cache(maxsize=1024)  # a plan that is compiled for many budgets, or played, asks the same again and again
def _once(
    blocks: Blocks,
    room: int,
    depths: tuple[int, ...],
    paced: tuple[tuple[int, float], ...],
    anyway: tuple[int, ...],
    link: float,
) -> Split | None:
    pace = dict(paced)
    if not any(pace.values()) or blocks.bytes <= room:
        return fitted(blocks, room, depths[0], anyway=anyway)
    order = [*pace, *(n for n in range(len(blocks.streamable)) if n not in pace)]
    ran = replace(blocks, streamable=tuple(blocks.streamable[n] for n in order))
    times = [pace.get(n, 0.0) for n in order]
    made = _quickest(ran, room, depths, times, {*map(order.index, anyway)}, link)
    if made is None:
        return None
    stay = dict(zip(order, made.stay, strict=True))
    return replace(made, stay=tuple(stay[n] for n in sorted(stay)))


def _quickest(
    blocks: Blocks,
    room: int,
    depths: Sequence[int],
    pace: Sequence[float],
    anyway: Collection[int],
    link: float,
) -> Split | None:
    """Of blocks in the order in which they run. What stays is spread evenly over their bytes, over their
    seconds, and over both: which is best depends on where they disagree."""
    if (hidden := _hidden(blocks, room, depths[0], pace, anyway, link)) is not None:
        return hidden
    size, time = sum(blocks.streamable), sum(pace)
    made: dict[Split, float] = {}
    for ahead in depths:
        for share in SHARES:
            weights = [
                (t / time) ** share * (b / size) ** (1 - share)
                for t, b in zip(pace, blocks.streamable, strict=True)
            ]
            one = fitted(blocks, room, ahead, weights, anyway)
            if one is not None and one not in made:
                made[one] = seconds(blocks, one, pace, link)
    return min(made, key=made.__getitem__) if made else None


def _hidden(
    blocks: Blocks,
    room: int,
    prefetch: int,
    pace: Sequence[float],
    anyway: Collection[int],
    link: float,
) -> Split | None:
    """Where little has to come: only small blocks do, through a ring that is small as well. None where the
    computing would wait for them."""
    for largest in sorted({*blocks.streamable}):
        stay = {n for n, size in enumerate(blocks.streamable) if size > largest}.union(anyway)
        made = split(blocks, room - (prefetch + 1) * largest, prefetch, pace, stay)
        slow = made.crossing / link > sum(pace) / 2
        if made.held <= room and not slow and seconds(blocks, made, pace, link) <= sum(pace) * 1.001:
            return made
    return None


def in_room(
    placement: Placement,
    blocks: Blocks,
    room: int,
    pace: Mapping[int, float],
    stays: Collection[int] = (),
) -> Split | None:
    """What stays of a component in ``room`` bytes, with the policy left to us; None: all of it. ``stays``:
    the blocks that stay now, which are kept if they can be."""
    ahead = PREFETCH if placement.split is None else placement.split.ahead
    depths = (ahead,) if placement.prefetch is not None else (ahead, ahead + 1)
    found = (quickest(blocks, room, depths, pace, anyway, placement.link) for anyway in (stays, ()))
    made = next(filter(None, found), split(blocks, 0, 0))
    return made if made.buffer else None


def seconds(blocks: Blocks, split: Split, pace: Sequence[float], link: float = LINK) -> float:
    """Of one forward in steady state, of blocks in the order in which they run."""
    comes = [n for n, stays in enumerate(split.stay) if not stays]
    if not comes:
        return sum(pace)
    clock = _Clock(blocks.streamable, link)
    stepper = Stepper(Ring({n: blocks.streamable[n] for n in comes}, split.buffer), clock)
    stepper.follow(range(len(pace)))
    length, ended = 0.0, 0.0
    for _ in range(FORWARDS):
        stepper.begin()
        for index, needs in enumerate(pace):
            stepper.turn(index)
            clock.computed += needs
        length, ended = clock.computed - ended, clock.computed
    return length


class _Clock:
    """Two lanes, in seconds: until when each is busy, and when each block has arrived."""

    def __init__(self, sizes: Sequence[int], link: float) -> None:
        self.computed = 0.0
        self._sizes = sizes
        self._link = link
        self._copied = 0.0
        self._free_since = 0.0
        self._arrival: dict[int, float] = {}

    def ran(self) -> None:
        self._free_since = self.computed

    def fetch(self, index: int) -> None:
        raise AssertionError(f"block {index} stays, and was there from the start")

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        self._copied = max(self._copied, self._free_since) + self._sizes[index] / self._link
        self._arrival[index] = self._copied

    def arrive(self, index: int) -> None:
        self.computed = max(self.computed, self._arrival.get(index, 0.0))
