"""The cover of a product, from which every run of the tests is made."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from covering import covering

COLUMNS: list[list[list[Any]]] = [
    [[1, 2, 3, 4, 5], ["a", "b"]],
    [["a", "b"], [1, 2, 3, 4, 5]],
    [[1, 2, 3, 4], ["a", "b"]],
    [[1, 2], ["a", "b", "c"], [True, False]],
    [[1], ["a"]],
]


def usual(made: list[Any]) -> list[tuple[Any, ...]]:
    return [p.values for p in made if not p.marks]


@pytest.mark.parametrize("start", range(3))
@pytest.mark.parametrize("columns", COLUMNS, ids=str)
def test_each_value_comes_in_every_run_and_each_combination_in_a_wide_one(
    columns: list[list[Any]], start: int
) -> None:
    made = covering(*columns, start=start)
    assert [p.values for p in made] == [*product(*columns)]
    for at, column in enumerate(columns):
        assert {values[at] for values in usual(made)} == {*column}
    assert len(usual(made)) == max(map(len, columns))


def test_where_one_in_two_is_run_shorter_columns_are_whole() -> None:
    columns = [*range(9)], ["a", "b", "c", "d"]
    made = covering(*columns, one_in=2)
    assert [p.values for p in made] == [*product(*columns)]
    assert usual(made) == [(0, "a"), (2, "b"), (4, "c"), (6, "d"), (8, "a")]


def test_with_another_start_other_pairs_come() -> None:
    columns = [1, 2, 3, 4], ["a", "b", "c"]
    assert {*usual(covering(*columns))}.isdisjoint(usual(covering(*columns, start=1)))
