"""Names of what is written: one that ends with a slash is a folder's."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from planner.cli.main import command, run
from planner.cli.output import Output
from planner.cli.verbs import VERBS

WRITTEN = {"output", "out", "report", "plot", "trace", "frontier_file"}
MADE = {"batch", "docs"}
"""Verbs that make the folder that they are given."""


def test_whatever_a_verb_writes_is_named_so() -> None:
    context = click.Context(command)
    found = {
        (verb, parameter.name): parameter.type
        for verb in VERBS
        for parameter in command.get_command(context, verb).params  # type: ignore[union-attr]
        if parameter.name in WRITTEN and verb not in MADE
    }
    assert len(found) >= 9
    assert {key: kind for key, kind in found.items() if not isinstance(kind, Output)} == {}


@pytest.mark.parametrize(
    "verb",
    [
        ["new", "sdxl", "-o"],
        ["schema", "-o"],
        ["apply", "x.plan.yaml", "--simulate", "--out"],
        ["fit", "x.plan.yaml", "--card", "h200", "-o"],
        ["explain", "x.plan.yaml", "--plot"],
    ],
    ids=lambda verb: verb[0],
)
def test_a_folder_that_is_not_there_becomes_no_file(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(
        "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"
    )
    assert run([*verb, "made by me/"]) == 4
    said = capsys.readouterr().out
    assert 'there is no folder "made by me/"' in said
    assert "mkdir -p 'made by me/'" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.plan.yaml"]


@pytest.mark.parametrize(("verb", "name"), [("new", "sdxl.plan.yaml"), ("schema", "plan.v1.schema.json")])
def test_a_folder_that_is_there_takes_it(
    verb: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert run([verb, *(["sdxl"] if verb == "new" else []), "-o", "there/"]) == 0
    assert name in {path.name for path in Path("there").iterdir()}
