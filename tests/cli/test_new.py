"""``plan new``: the plans that ship, copied with what they extend."""

from __future__ import annotations

from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.cli.starters import names, starter
from planner.document.schema import NAME as SCHEMA

PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_plan_that_ships_is_listed_with_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*names()]
    assert {f"{name}.plan.yaml" for name in names()} == {
        path.name for path in PLANS.glob("*") if path.is_file()
    }
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", names())
def test_a_copy_stands_by_itself_and_means_the_same(name: str, here: Path) -> None:
    assert run(["new", name]) == 0
    copy = planner.compile(f"{name}.plan.yaml")
    assert copy.to_json() == planner.compile(PLANS / f"{name}.plan.yaml").to_json()
    for path in here.iterdir():
        assert f"$schema={SCHEMA} " in path.read_text(encoding="utf-8").splitlines()[0]
    assert written(here) == {*starter(name).files}


def test_a_name_of_ones_own_and_a_folder(here: Path) -> None:
    (here / "plans").mkdir()
    assert run(["new", "flux-12gb.plan.yaml", "-o", "plans/mine.plan.yaml"]) == 0
    assert run(["new", "sdxl", "-o", "plans"]) == 0
    assert written(here) == {"plans/mine.plan.yaml", "plans/flux.plan.yaml", "plans/sdxl.plan.yaml"}
    assert run(["new", "flux-keep", "-o", "plans"]) == 0  # flux.plan.yaml is there as it ships
    assert run(["validate"]) == 0


@pytest.mark.parametrize("taken", ["flux-12gb.plan.yaml", "flux.plan.yaml"])
def test_nothing_is_written_over_and_nothing_is_written_by_half(
    taken: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / taken).write_text("mine")
    assert run(["new", "flux-12gb"]) == 2
    assert "[P940 output-taken]" in capsys.readouterr().out
    assert written(here) == {taken}
    assert (here / taken).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sdxll"], 'did you mean "sdxl"?'),
        (["../plans/sdxl"], "known: flux, flux-12gb"),
        (["-o", "x.plan.yaml"], "--output needs the NAME"),
    ],
)
def test_usage(arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert written(here) == set()


def test_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "sdxl", "-o", "nowhere/x.plan.yaml"]) == 4
    assert "[P919 output-unwritable]" in capsys.readouterr().out
