"""The cookbook's plans, its tables and what is predicted today agree."""

from __future__ import annotations

import re
from itertools import product

import pytest
import yaml

import planner
from planner.cards.shipped import card_at
from planner.docs.cookbook.__main__ import main
from planner.docs.cookbook.making import digest, made, results
from planner.docs.cookbook.page import PAGE, compiled, said_in, written
from planner.docs.cookbook.recipes import ENDS, LEFT, RECIPES, SIZES, Recipe, entry, file_of, folder
from planner.fitting.solver import name as solver_name
from planner.fitting.words import TWICE
from planner.schedule.card import imagined_as

ALL = [
    pytest.param(recipe, size, id=entry(recipe, size), marks=() if size == 12 else pytest.mark.wide)
    for recipe, size in product(RECIPES, SIZES)
]
STALE = "python -m planner.docs.cookbook"


def test_each_size_of_each_model_has_a_plan_or_what_would_be_needed() -> None:
    kept = results()
    assert {*kept} == {entry(recipe, size) for recipe, size in product(RECIPES, SIZES)}
    there = {path.name.removesuffix(ENDS) for path in folder().glob(f"*{ENDS}")}
    assert there == {name for name, one in kept.items() if one.bound is not None}
    for name, one in kept.items():
        if one.bound is None:
            assert one.least is not None, name
            assert one.least > (int(name.rpartition("-")[2].removesuffix("gb")) - LEFT) * 1024


@pytest.mark.parametrize(("recipe", "size"), ALL)
def test_a_plan_is_valid_and_keeps_its_promise_on_its_card(recipe: Recipe, size: int) -> None:
    """Compiled anew, without the search: what the cost model says today is what the file says."""
    one = results()[entry(recipe, size)]
    assert one.digest == digest(recipe, size), f"{STALE} {recipe.name}"
    path = file_of(recipe, size)
    if one.bound is None:
        return
    text = path.read_text(encoding="utf-8")
    found = planner.validate(path, card=imagined_as(card_at(SIZES[size])))
    tight = f"# fit: {TWICE}\n" in text
    assert [d.code.id for d in found.diagnostics if d.code.severity.value != "note"] == ["P608"] * tight
    assert tight == one.tight
    said = said_in(text)
    forecast = compiled(recipe, size).forecast
    assert forecast is not None
    assert forecast.fits != one.tight
    assert forecast.seconds == pytest.approx(float(said.seconds), abs=0.006), f"{STALE} {recipe.name}"
    assert forecast.peak / (1 << 30) == pytest.approx(float(said.peak), abs=0.006)
    assert one.bound <= forecast.seconds + 1e-6
    assert forecast.peak <= (size - LEFT) << 30
    assert "which was traced" not in text, "another size than was traced"


def test_the_page_has_what_the_plans_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert written(text) == text, f"{STALE} --page"


def test_what_changes_the_picture_is_told_in_both() -> None:
    for recipe, size in product(RECIPES, SIZES):
        path = file_of(recipe, size)
        if path.exists():
            text = path.read_text(encoding="utf-8")
            tiled = yaml.safe_load(text).get("components", {}).get("vae", {}).get("tiling", False)
            assert bool(tiled) == results()[entry(recipe, size)].tiled
            assert ("picture changed by vae tiling" in text) == bool(tiled)


def test_a_fit_writes_the_same_bytes_again() -> None:
    """The smallest of them: where the search finds another plan, all are to be written anew."""
    recipe = RECIPES[0]
    text, result = made(recipe, 8)
    kept = file_of(recipe, 8).read_text(encoding="utf-8")
    assert text == re.sub(r"HiGHS [\d.]+", solver_name(), kept), STALE
    assert result == results()[entry(recipe, 8)]


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sdx1"]) == 2
    assert "sdxl" in capsys.readouterr().err
