"""Laws of the layout in pieces."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from planner.graph.pieces import Pieces

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=20)
CUTS = st.lists(st.integers(0, 400), max_size=8)


@given(SIZES, CUTS)
def test_each_batch_lies_after_the_one_before_and_no_piece_across_a_cut(
    sizes: list[int], cuts: list[int]
) -> None:
    made = Pieces(enumerate(sizes), cuts)
    assert made.nbytes == sum(sizes)
    starts = [0, *accumulate(made.sizes)]
    places = [starts[piece] + offset for piece, offset in made.offsets.values()]
    assert places == [0, *accumulate(sizes)][:-1]
    for start, end in pairwise(starts):
        first = sizes[places.index(start)]
        assert not any(start + first <= cut < end for cut in cuts)


@given(SIZES, CUTS, st.integers(0, 600))
def test_what_is_left_gives_enough_and_no_piece_too_many(
    sizes: list[int], cuts: list[int], wanted: int
) -> None:
    made = Pieces(enumerate(sizes), cuts)
    count = made.left(len(made.sizes), wanted)
    given_up = made.sizes[count:]
    assert count == 1 or sum(given_up) >= wanted
    assert not given_up or sum(given_up[1:]) < wanted
    assert made.after(count) == {n for n, (piece, _) in made.offsets.items() if piece >= count}


@given(SIZES, CUTS)
def test_a_cut_between_two_batches_is_the_end_of_a_piece(sizes: list[int], cuts: list[int]) -> None:
    ends = [*accumulate(sizes)]
    for cut in ends:
        made = Pieces(enumerate(sizes), [*cuts, cut])
        assert sum(made.sizes[: made.within(cut)]) == cut
