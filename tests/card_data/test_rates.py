"""What is between measured points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cards.rates import Table

sizes = st.integers(1, 1 << 40)
rates = st.floats(1e6, 1e16)
lines = st.dictionaries(sizes, rates, min_size=1, max_size=8).map(
    lambda d: Table(tuple(((float(size),), rate) for size, rate in d.items()))
)
shapes = st.dictionaries(st.tuples(sizes, sizes, sizes), rates, min_size=1, max_size=12).map(
    lambda d: Table(tuple((tuple(map(float, shape)), rate) for shape, rate in d.items()))
)


@given(lines, sizes)
def test_a_line_goes_through_its_points_and_stays_within_them(table: Table, size: int) -> None:
    rates = [rate for _, rate in table.points]
    assert min(rates) * 0.999 <= table.at((size,)) <= max(rates) * 1.001
    for point, rate in table.points:
        assert table.at(point) == pytest.approx(rate)


@given(shapes, st.tuples(sizes, sizes, sizes))
def test_shapes_too(table: Table, shape: tuple[int, int, int]) -> None:
    rates = [rate for _, rate in table.points]
    assert min(rates) * 0.999 <= table.at(shape) <= max(rates) * 1.001
    for point, rate in table.points:
        assert table.at(point) == pytest.approx(rate)


def test_between_two_points_it_is_their_geometric_mean() -> None:
    table = Table((((1024.0,), 1e9), ((4096.0,), 4e9)))
    assert table.at((2048,)) == pytest.approx(2e9)
    assert [table.at((1,)), table.at((1 << 30,))] == pytest.approx([1e9, 4e9])


def test_nearer_shapes_weigh_more() -> None:
    table = Table((((1.0, 4096.0, 4096.0), 6e14), ((1.0, 64.0, 4096.0), 1e13)))
    assert 1e13 < table.at((1, 128, 4096)) < table.at((1, 2048, 4096)) < 6e14
