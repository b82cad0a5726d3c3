"""The allocator's model: laws that hold for any order of events, torch's rules one by one."""

import time
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.predict.allocator import Allocator, Block, NoRoom

MIB = 1 << 20
Event = tuple[int, int, int]
sizes = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 2 * MIB),
    st.integers(MIB, 30 * MIB),
    st.sampled_from([MIB, 10 * MIB]),
)
events = st.lists(st.tuples(st.integers(0, 5), sizes, st.integers(0, 1 << 16)), max_size=80)


def played(
    allocator: Allocator, events: Iterable[Event], check: Callable[[list[Block]], None] = lambda live: None
) -> tuple[list[Block], list[object]]:
    """Allocates, frees, and now and then empties the cache; gives the figures after each event."""
    live: list[Block] = []
    told: list[object] = []
    for kind, size, pick in events:
        if kind == 5:
            allocator.empty_cache()
        elif kind >= 3 and live:
            allocator.free(live.pop(pick % len(live)))
        else:
            try:
                live.append(allocator.alloc(size))
            except NoRoom:
                told.append("no room")
        check(live)
        told.append(
            (allocator.allocated, allocator.reserved, allocator.peak_allocated, allocator.peak_reserved)
        )
    return live, told


@given(events, st.booleans(), st.sampled_from([None, 64 * MIB]))
def test_laws(events: list[Event], expandable: bool, cap: int | None) -> None:
    allocator = Allocator(expandable=expandable, cap=cap)

    def check(live: list[Block]) -> None:
        spans = sorted((b.at, b.at + b.size) for b in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), "overlap"
        blocks = list(allocator.blocks())
        assert sum(b.size for b in blocks if b.mapped) == allocator.reserved
        assert sum(b.size for b in live) == allocator.allocated <= allocator.reserved
        assert {id(b) for b in blocks if not b.free} == {id(b) for b in live}
        assert cap is None or allocator.reserved <= cap
        assert allocator.peak_allocated >= allocator.allocated
        assert allocator.peak_reserved >= allocator.reserved
        joined = [(a, b) for a, b in pairwise(blocks) if a.after is b]
        assert all(a.at + a.size == b.at for a, b in joined)
        assert not any(a.free and b.free and a.mapped == b.mapped for a, b in joined), "free neighbours apart"

    live, _ = played(allocator, events, check)
    for block in live:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0, "all is free, so all goes back"


@given(events, st.booleans(), st.sampled_from([None, 48 * MIB]))
@settings(max_examples=30)
def test_same_events_same_figures(events: list[Event], expandable: bool, cap: int | None) -> None:
    one, two = Allocator(expandable=expandable, cap=cap), Allocator(expandable=expandable, cap=cap)
    assert played(one, events)[1] == played(two, events)[1]


@pytest.mark.parametrize(
    ("asked", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # what is over is at most 1 MiB, and is not split off
        (21 * MIB - 1, 22 * MIB, 22 * MIB),
    ],
)
def test_sizes_of_segments(asked: int, allocated: int, reserved: int) -> None:
    allocator = Allocator()
    allocator.alloc(asked)
    assert (allocator.allocated, allocator.reserved) == (allocated, reserved)


@pytest.mark.parametrize(("asked", "reserved"), [(1, 2), (2 * MIB, 20), (20 * MIB, 20), (20 * MIB + 1, 40)])
def test_expandable_segments_grow_by_pages(asked: int, reserved: int) -> None:
    allocator = Allocator(expandable=True)
    allocator.alloc(asked)
    assert allocator.reserved == reserved * MIB


def test_expandable_segment_grows_past_a_block_that_is_too_small() -> None:
    allocator = Allocator(expandable=True)
    first = allocator.alloc(40 * MIB)
    allocator.free(first)
    allocator.alloc(50 * MIB)
    assert allocator.reserved == 60 * MIB, "a plain one would hold 40 and 50"


def test_cached_segment_serves_what_fits_it_best() -> None:
    allocator = Allocator()
    blocks = [allocator.alloc(size * MIB) for size in (60, 40, 80)]
    where = blocks[1].at
    for block in blocks:
        allocator.free(block)
    assert allocator.alloc(30 * MIB).at == where
    assert allocator.reserved == 180 * MIB


def test_no_room_gives_the_cache_back_first() -> None:
    allocator = Allocator(cap=100 * MIB)
    allocator.free(allocator.alloc(60 * MIB))
    allocator.alloc(80 * MIB)
    assert (allocator.reserved, allocator.retries) == (80 * MIB, 1)


def test_no_room_says_so_and_changes_nothing_else() -> None:
    allocator = Allocator(cap=100 * MIB)
    kept = allocator.alloc(60 * MIB)
    with pytest.raises(NoRoom) as raised:
        allocator.alloc(41 * MIB)
    assert (raised.value.size, raised.value.reserved, raised.value.cap) == (
        42 * MIB - MIB,
        60 * MIB,
        100 * MIB,
    )
    assert (allocator.allocated, allocator.reserved, allocator.retries) == (60 * MIB, 60 * MIB, 1)
    allocator.free(kept)
    assert allocator.alloc(100 * MIB).size == 100 * MIB


def test_a_piece_in_use_keeps_its_segment() -> None:
    allocator = Allocator()
    small, large = allocator.alloc(2 * MIB), allocator.alloc(6 * MIB)
    allocator.free(large)
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    allocator.free(small)
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_expandable_pages_go_back_around_a_block_in_use() -> None:
    allocator = Allocator(expandable=True)
    blocks = [allocator.alloc(20 * MIB) for _ in range(5)]
    for i in (0, 1, 3, 4):
        allocator.free(blocks[i])
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    again = allocator.alloc(40 * MIB)
    assert again.at == blocks[2].at - 40 * MIB, "the lowest addresses with room are used again"
    assert allocator.reserved == 60 * MIB


def test_freed_twice() -> None:
    allocator = Allocator()
    block = allocator.alloc(1)
    allocator.free(block)
    with pytest.raises(ValueError, match="twice"):
        allocator.free(block)


@pytest.mark.parametrize("expandable", [False, True])
def test_time_grows_with_events_alone(expandable: bool) -> None:
    """100,000 events take about 0.2 s; the bound leaves room for a busy machine."""
    allocator = Allocator(expandable=expandable)
    start = time.process_time()
    live: list[Block] = []
    for i in range(50_000):
        live.append(allocator.alloc((i * 7919 % 97 + 1) * 300_000))
        if len(live) > 40:
            allocator.free(live.pop(i % 40))
    assert time.process_time() - start < 2
