"""What is said of a size that is none: following it makes one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.document.sizes import size_hint, unit_hint
from planner.plan.units import amount
from planner.source.text import Span

HERE = Span(file="x", line=1, column=1)


@pytest.mark.parametrize(
    ("number", "meant"),
    [
        (11, "11GiB"),
        (11.5, "11.5GiB"),
        (0.5, "50%"),
        (8192, "8192MiB"),
        (12e9, "12GB"),
        (12 << 30, "12GiB"),
        ((12 << 30) + 1, "12884901889B"),
        (500 << 20, "500MiB"),
    ],
)
def test_a_number_is_what_people_write_without_a_unit(number: float, meant: str) -> None:
    assert size_hint(number, share=True) == f"did you mean {meant}?"


def test_a_share_is_offered_where_one_is_taken() -> None:
    assert size_hint(0.5, share=False) == "did you mean 0.5GiB?"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("11gb", "11GB"),
        ("11G", "11GiB"),
        ("11,5GiB", "11.5GiB"),
        ("１２GiB", "12GiB"),
        ("12\u00a0GiB", "12GiB"),
        ("24Gi", "24GiB"),
        ("512m", "512MiB"),
    ],
)
def test_a_unit_is_what_people_write(text: str, meant: str) -> None:
    assert unit_hint(text) == f"did you mean {meant}?"


@given(st.floats() | st.integers().map(float), st.booleans())
def test_what_is_offered_for_a_number_is_a_size(number: float, share: bool) -> None:
    said = re.fullmatch(r"did you mean (.*)\?", size_hint(number, share=share))
    if said is not None:
        found = amount(said[1], HERE)
        assert found is not None or number < 1e-8
        assert share or found is None or found.bytes


@given(st.from_regex(r" ?[1-9][0-9]{0,5}([.,][0-9]{1,3})? ?[kKmMgG]?[iI]?[bB]? ?", fullmatch=True))
def test_what_is_offered_for_a_text_is_a_size(text: str) -> None:
    said = re.fullmatch(r"did you mean (.*)\?", unit_hint(text))
    assert said is not None
    assert amount(said[1], HERE) is not None
