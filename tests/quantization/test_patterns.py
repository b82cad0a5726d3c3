"""Patterns of a plan end: those that would not are refused, whatever they are searched in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.plan.pattern import PROBES, Searches, TooSlow, fault_of, is_slow
from planner.source.limits import PATTERN, RULES

SLOW = [r"(?:a|aa)+[#$]", r"(.+)(.+)(.+)(.+)(.+)(.+)\6\5\4\3\2\1[#$]", r"(?=(a+))(a|a)+(?<!a)[#]"]
SEEN_THROUGH = ["(x+x+)+y", r"(a|a)*b$", r"(\w+\.?)*#", r"((a0?\.)*)*#", "(.*.*.*)*X$"]
"""re takes exponential time of them."""


def validated(folder: Path, key: str, pattern: str) -> planner.Validation:
    path = folder / "x.plan.yaml"
    said = pattern.replace("'", "''")
    value = f"['{said}']" if key == "skip" else f"'{said}'"
    rule = f"{{component: unet, {key}: {value}, backend: torchao, type: int8_weight_only}}"
    path.write_text(f"version: 1\npipeline: StableDiffusionXLPipeline\nquantization: [{rule}]\n")
    return planner.validate(path)


@pytest.mark.usefixtures("searches_end_soon")
@pytest.mark.parametrize(("key", "pattern"), [*(("match", slow) for slow in SLOW), ("skip", SLOW[0])])
def test_what_does_not_end_is_refused(tmp_path: Path, key: str, pattern: str) -> None:
    found = validated(tmp_path, key, pattern).errors
    assert [d.code.name for d in found] == ["slow-pattern"]


def test_of_many_that_do_not_end_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    rule = f"  - {{component: unet, match: '{SLOW[0]}', backend: torchao, type: int8_weight_only}}\n"
    path.write_text(f"version: 1\npipeline: StableDiffusionXLPipeline\nquantization:\n{rule * RULES.most}")
    assert [d.code.name for d in planner.validate(path).errors].count("slow-pattern") == 1


@pytest.mark.parametrize("pattern", SEEN_THROUGH)
def test_what_the_engine_sees_through_is_no_fault(pattern: str) -> None:
    assert not is_slow(pattern)
    assert not any(Searches().found(pattern, name) for name in PROBES)


@pytest.mark.parametrize("pattern", [r"attn\d\.to_(q|k|v)$", "^(?!.*norm).*proj", r"(?<=to_)out\.0"])
def test_what_people_write_is_searched(tmp_path: Path, pattern: str) -> None:
    assert validated(tmp_path, "match", pattern)


@pytest.mark.parametrize("pattern", ["attn(", "a{4294967296}", "(" * 450 + ")" * 450, "[", "*"])
def test_what_is_none_is_said(tmp_path: Path, pattern: str) -> None:
    assert fault_of(pattern)
    assert [d.code.name for d in validated(tmp_path, "match", pattern).errors] == ["bad-pattern"]


def test_the_longest_pattern(tmp_path: Path) -> None:
    assert validated(tmp_path, "match", "a" * PATTERN.most)
    found = validated(tmp_path, "match", "a" * (PATTERN.most + 1)).errors
    assert [d.code.name for d in found] == ["over-limit"]


def test_many_searches_share_their_time() -> None:
    searches = Searches()
    searches._left = 0.02

    def search() -> None:
        for number in range(10_000):
            searches.found(r"(.+)(.+)(.+)\3\2\1[#$]", "a" * 30 + str(number))

    with pytest.raises(TooSlow):
        search()


@settings(max_examples=100)
@given(
    pattern=st.from_regex(r"[a-z]{0,3}(\\d|\\\.|\[a-c\]|\(q\|k\)|a\?|b\+|\^|\$){0,4}", fullmatch=True),
    name=st.from_regex(r"[a-c.0-9qk]{0,12}", fullmatch=True),
)
def test_it_finds_what_re_finds(pattern: str, name: str) -> None:
    assert Searches().found(pattern, name) == (re.search(pattern, name) is not None)
