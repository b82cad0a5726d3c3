"""Which combinations every run of the tests has; the full product is in ``pytest -m wide``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest


def covering(*columns: Sequence[Any], start: int = 0) -> list[Any]:
    """Parameters for a test: the product of ``columns``, all but a cover of it marked as wide.

    In the cover each value of each column comes at least once: the first value of each column together,
    then the second ones, and so on, where a shorter column begins again at its end. ``start``: how far the
    last column is turned first, so that two tests with the same columns combine them in other ways.
    """
    starts = [0] * (len(columns) - 1) + [start]
    usual = {
        tuple((number + at) % len(column) for column, at in zip(columns, starts, strict=True))
        for number in range(max(map(len, columns)))
    }
    return [
        pytest.param(
            *(column[at] for column, at in zip(columns, places, strict=True)),
            marks=() if places in usual else pytest.mark.wide,
        )
        for places in product(*(range(len(column)) for column in columns))
    ]
