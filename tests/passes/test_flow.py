"""The played forward obeys its bounds, and the chosen split is never slower than the even one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.graph.flow import quickest, seconds
from planner.graph.model import LINK
from planner.graph.split import Split, fitted
from planner.target.model import Blocks

MB = 1_000_000


@st.composite
def cases(draw: st.DrawFn) -> tuple[Blocks, list[float], int]:
    sizes = draw(st.lists(st.integers(1, 700), min_size=3, max_size=40))
    pace = draw(st.lists(st.floats(0, 0.02), min_size=len(sizes), max_size=len(sizes)))
    blocks = Blocks(fixed=draw(st.integers(0, 100)) * MB, streamable=tuple(s * MB for s in sizes))
    return blocks, pace, int(draw(st.floats(0.1, 1.0)) * blocks.bytes)


@settings(max_examples=200)
@given(cases())
def test_between_the_floor_and_one_after_the_other(case: tuple[Blocks, list[float], int]) -> None:
    blocks, pace, room = case
    even = fitted(blocks, room, 1)
    best = quickest(blocks, room, (1, 2), dict(enumerate(pace)))
    assert (best is None) == (even is None)
    if best is None or even is None:
        return
    assert best.held <= room
    taken = seconds(blocks, best, pace)
    # What lies in the ring when a forward begins was brought during the one before it.
    assert taken >= max(sum(pace), (best.crossing - best.buffer) / LINK) * 0.999999
    assert taken <= (sum(pace) + best.crossing / LINK) * 1.000001
    # Small blocks through a small ring are taken where that costs a thousandth at most.
    assert taken <= seconds(blocks, even, pace) * 1.001001 or not any(pace)


def test_blocks_that_compute_more_for_their_bytes_stream_more() -> None:
    blocks = Blocks(fixed=0, streamable=(680 * MB,) * 19 + (283 * MB,) * 38)
    pace = (0.073 / 19,) * 19 + (0.11 / 38,) * 38
    even, best = fitted(blocks, 13_800 * MB, 1), quickest(blocks, 13_800 * MB, (1,), dict(enumerate(pace)))
    assert even is not None
    assert best is not None
    assert best.stay[:19].count(False) < even.stay[:19].count(False)
    assert seconds(blocks, best, pace) == pytest.approx(0.92 * seconds(blocks, even, pace), rel=0.03)


def test_few_bytes_come_in_small_blocks_behind_the_computing() -> None:
    blocks = Blocks(fixed=0, streamable=(113 * MB, 151 * MB) * 19 + (283 * MB,) * 38)
    pace = (0.002,) * 38 + (0.003,) * 38
    little, much = (
        quickest(blocks, blocks.bytes - lack * MB, (1,), dict(enumerate(pace))) for lack in (400, 6000)
    )
    assert little is not None
    assert much is not None
    assert little.crossing < 700 * MB
    assert little.buffer == 2 * 113 * MB
    assert seconds(blocks, little, pace) == pytest.approx(sum(pace))
    assert much.buffer == 2 * 283 * MB


def test_the_order_in_which_blocks_run_is_what_is_played() -> None:
    """Of each four, as made, the second and the fourth run last, and one of them computes for the others."""
    sizes, times, runs = (75, 94, 57, 57), (0.0005, 0.0008, 0.0001, 0.0014), (2, 0, 3, 1)
    blocks = Blocks(fixed=0, streamable=tuple(n * MB for n in sizes) * 30)
    made = dict(enumerate(times * 30))
    ran = {4 * at + n: made[4 * at + n] for at in range(30) for n in runs}
    best, other = (quickest(blocks, blocks.bytes // 3, (1, 2), pace) for pace in (ran, made))
    assert best is not None
    assert other is not None
    assert best.held <= blocks.bytes // 3
    assert _played(blocks, best, ran) < _played(blocks, other, ran)


def _played(blocks: Blocks, split: Split, pace: dict[int, float]) -> float:
    ran = Blocks(fixed=0, streamable=tuple(blocks.streamable[n] for n in pace))
    return seconds(ran, replace(split, stay=tuple(split.stay[n] for n in pace)), [*pace.values()])


def test_where_the_link_bounds_it_is_never_idle() -> None:
    """Blocks of two sizes: a ring for two does not divide into places, and they take turns at its ends."""
    blocks = Blocks(fixed=0, streamable=(113 * MB, 151 * MB, 151 * MB) * 20)
    pace = (0.0001, 0.0015, 0.001) * 20
    best = quickest(blocks, 1000 * MB, (1, 2), dict(enumerate(pace)))
    assert best is not None
    assert best.buffer == 2 * 151 * MB
    assert seconds(blocks, best, pace) == pytest.approx(best.crossing / LINK, rel=0.01)
