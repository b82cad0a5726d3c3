"""Which combinations every run of the tests has; the full product is in ``pytest -m wide``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest


def covering(*columns: Sequence[Any], start: int = 0, one_in: int = 1) -> list[Any]:
    """Parameters for a test: the product of ``columns``, all but a cover of it marked as wide.

    In the cover each value of each column comes at least once: the first value of each column together,
    then the second ones, and so on, where a shorter column begins again at its end. ``start``: how far the
    last column is turned first, so that two tests with the same columns combine them in other ways;
    ``one_in``: where each takes seconds, one of so many of the cover is in every run, the rest is wide too.
    """
    starts = [0] * (len(columns) - 1) + [start]
    longest = max(map(len, columns))
    usual = {
        tuple(
            ((number if len(column) == longest else nth) + at) % len(column)
            for column, at in zip(columns, starts, strict=True)
        )
        for nth, number in enumerate(range(0, longest, one_in))
    }
    return [
        pytest.param(
            *(column[at] for column, at in zip(columns, places, strict=True)),
            marks=() if places in usual else pytest.mark.wide,
        )
        for places in product(*(range(len(column)) for column in columns))
    ]
