"""What is between measured points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cards.rates import Table
from planner.cards.shipped import card_at

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


def test_the_last_size_chooses_the_kernel_where_it_does() -> None:
    """CogVideoX: 17,776 tokens with heads of 64 are nearer to 16,384 with heads of 128, another kernel's."""
    table = Table((((2, 38, 4429, 4429, 64), 4e14), ((1, 24, 16384, 16384, 128), 7e14)))
    tokens = (2, 48, 17776, 17776, 64)
    assert table.at(tokens, by_last=True) == pytest.approx(4e14)
    assert table.at(tokens) > 5e14
    assert table.at((2, 48, 17776, 17776, 96), by_last=True) == table.at((2, 48, 17776, 17776, 96))
    attention = card_at("h200").seconds("attention", "bfloat16", 10**12, 0, tokens)
    assert attention > 1.3 * card_at("h200").seconds("attention", "bfloat16", 10**12, 0, (*tokens[:4], 128))
