"""What a pipeline allocates between uses is played where it happens; rounds that are alike are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.predict.allocator import Allocator
from planner.predict.between import Between
from planner.predict.profile import Turn, UseProfile
from planner.predict.replay import play, rooms
from planner.predict.rounds import Rounds

MIB = 1 << 20
OUTPUT = (64 * MIB, 8 * MIB, -2)
"""A use that leaves 8 MiB, its output, behind 64 that it frees."""


def test_an_output_stays_where_it_lies_and_what_else_a_use_left_is_freed() -> None:
    allocator = Allocator(expandable=True)
    between = Between(allocator)
    between.upto(Turn(0, 0))
    left = play(allocator, UseProfile(component="a", events=(*OUTPUT, 2 * MIB)))
    between.used(left)
    between.upto(Turn(0, 12 * MIB, (8 * MIB, 4 * MIB)))
    in_use = [block for block in allocator.blocks() if not block.free]
    assert left[0] in in_use
    assert sorted(block.size for block in in_use) == [4 * MIB, 8 * MIB]


def test_what_was_there_before_the_call_is_beside_what_it_allocates() -> None:
    allocator = Allocator(expandable=True)
    between = Between(allocator)
    between.upto(Turn(0, 10 * MIB, (4 * MIB, 2 * MIB, -2)))
    assert allocator.allocated == 10 * MIB
    between.upto(Turn(0, 8 * MIB, (-1,)))
    assert allocator.allocated == 8 * MIB
    between.end()
    assert allocator.allocated == 0


def test_of_two_uses_in_a_row_the_first_leaves_nothing() -> None:
    allocator = Allocator(expandable=True)
    between = Between(allocator)
    for _ in range(3):
        between.used(play(allocator, UseProfile(component="a", events=OUTPUT)))
    assert allocator.allocated == 8 * MIB
    between.end()
    assert allocator.allocated == 0


def test_no_cap_stops_it() -> None:
    allocator = Allocator(expandable=True, cap=MIB)
    Between(allocator).upto(Turn(0, 40 * MIB, (40 * MIB,)))
    assert (allocator.allocated, allocator.cap, allocator.retries) == (40 * MIB, MIB, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 24)), max_size=60), st.integers(0, 1 << 22))
def test_as_many_bytes_as_are_held_are_in_use(steps: list[tuple[bool, int]], kept: int) -> None:
    """Random allocations and frees, cut into turns: tensors of the call, and what was there before."""
    allocator, live, made, glue = Allocator(expandable=True), dict[int, int](), 0, list[int]()
    between = Between(allocator)
    before = kept // 512 * 512
    for number, (frees, size) in enumerate(steps):
        if frees and live:
            at = [*live][size % len(live)]
            del live[at]
            glue.append(at - made)
        else:
            live[made] = (size // 512 + 1) * 512
            glue.append(live[made])
            made += 1
        if number % 5 == 4:
            between.upto(Turn(0, before + sum(live.values()), tuple(glue)))
            glue.clear()
            assert allocator.allocated >= before + sum(live.values())
            assert sum(not block.free for block in allocator.blocks()) == len(live) + (before > 0)
    between.end()
    assert allocator.allocated == 0


@pytest.mark.parametrize("length", [1, 2, 3])
def test_whole_rounds_are_left_out_but_for_the_last(length: int) -> None:
    turns = ["before", *[str(at % length) for at in range(7 * length)], "after"]
    rounds = Rounds(turns)
    assert [rounds.alike(at, turns[at]) for at in range(1 + length)] == [*range(1 + length)]
    assert rounds.alike(1 + length, turns[1 + length]) == 1 + 6 * length


def test_another_state_is_played() -> None:
    rounds = Rounds(["a"] * 9)
    assert [rounds.alike(at, at) for at in range(9)] == [*range(9)]


def test_pieces_that_the_pipeline_keeps_ask_for_more() -> None:
    """As many bytes, in a piece that is allocated anew each step beside the one before."""
    use = UseProfile(component="a", events=(30 * MIB, 50 * MIB, -2, 40 * MIB, -2, -1))
    plain = [(Turn(0, 48 * MIB), "a", use)] * 8
    begin, step = Turn(0, 48 * MIB, (24 * MIB, 24 * MIB)), Turn(0, 48 * MIB, (24 * MIB, -3))
    pieces = [(begin, "a", use), *[(step, "a", use)] * 7]
    assert rooms(pieces, 0)["a"] > rooms(plain, 0)["a"]
    longer = [*pieces, *pieces[1:2] * 100]
    assert rooms(longer, 0) == rooms(pieces, 0)


def test_a_component_asks_for_what_it_does_in_the_call() -> None:
    """What another one left in the cache is given back before it."""
    large = UseProfile(component="b", events=(200 * MIB, -1))
    small = UseProfile(component="a", events=(30 * MIB, -1))
    found = rooms([(Turn(0, 0), "b", large), (Turn(1, 0), "a", small)], 0)
    assert found == {"b": 200 * MIB, "a": 30 * MIB}
    assert rooms([(Turn(1, 0), "a", replace(small, component="a"))], 0) == {"a": 30 * MIB}
