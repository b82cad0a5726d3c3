"""A catalogue file of one's own is checked when it is read, and each fault told at its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import planner
from planner.document.schema import schema_text
from planner.target import catalogue
from planner.target.own import NAME, read_own

RECORD: dict[str, Any] = {
    "module": "mine",
    "components": {"enc": {"classes": [], "module": True}, "net": {"classes": ["Net"], "module": True}},
    "sequence": "enc->net",
    "exclude": [],
    "overrides": False,
    "walk": [{"id": "enc", "runs": ["enc"]}, {"id": "denoise", "runs": ["net"], "loop": "steps"}],
    "call": "prompt: str, steps: int=4, **kwargs",
}
GOOD: dict[str, Any] = {"format": 1, "diffusers": "0.42.1", "classes": {"Mine": RECORD}}


def written(folder: Path, values: Any, name: str = "my.catalogue.json") -> Path:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values, indent=1), encoding="utf-8")
    return path


def changed(**more: Any) -> dict[str, Any]:
    return {**GOOD, "classes": {"Mine": {**RECORD, **more}}}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\npipeline: {class: Mine}\nrun: {prompt: a cat}\n")
    return path


@pytest.mark.parametrize("version", catalogue.versions())
def test_what_ships_has_the_same_schema(version: str) -> None:
    jsonschema.validate(dict(catalogue._file(version)), json.loads(schema_text(NAME)))


@pytest.mark.parametrize("version", catalogue.versions())
def test_every_version_knows_the_calls(version: str) -> None:
    targets = [catalogue.find(name, version) for name in catalogue.names(version)]
    assert [t.cls for t in targets if t is not None and t.call is None] == ["VersatileDiffusionPipeline"]


def test_a_plan_of_a_class_of_ones_own(tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, GOOD)
    assert [d.code.name for d in planner.validate(plan).warnings] == ["unknown-class"]
    for given in (file, str(file), [file]):
        result = planner.validate(plan, catalogue=given)
        assert (result.errors, result.warnings) == ((), ())
    compiled = planner.compile(plan, catalogue=file)
    assert [row.stage for row in compiled.timeline if row.stage] == ["enc", "denoise"]
    monkeypatch.setenv("OFFLOAD_PLANNER_CATALOGUE", str(file))
    assert planner.validate(plan).warnings == ()
    made = planner.translate("Mine", improve=True)
    assert [stage.id for stage in made.stages or ()] == ["enc", "denoise"]


def test_the_first_of_two_files_counts_and_comes_before_what_ships(tmp_path: Path) -> None:
    plan = tmp_path / "flux.plan.yaml"
    plan.write_text("version: 1\npipeline: {class: FluxPipeline}\norder: enc -> net\n")
    record = {**RECORD, "walk": None}
    first = written(tmp_path, {**GOOD, "classes": {"FluxPipeline": record}}, "a.json")
    second = written(tmp_path, {**GOOD, "classes": {"FluxPipeline": {**record, "components": {}}}}, "b.json")
    assert not planner.validate(plan)
    assert planner.validate(plan, catalogue=[first, second])
    assert not planner.validate(plan, catalogue=[second, first])


@pytest.mark.parametrize(
    ("values", "at", "said"),
    [
        ("{", "{", "it is not JSON"),
        ('{"format": 1,\n "format": 1}', ' "format": 1}', 'key "format" stands twice'),
        ([], "[]", "expected object"),
        ({**GOOD, "format": 2}, ' "format": 2,', '"format": expected 1, found 2'),
        ({**GOOD, "clases": {}}, "{", "no such key: 'clases'"),
        ({"format": 1, "classes": {}}, "{", "'diffusers' is missing"),
        (changed(walk=[{"id": "x", "runs": ["nett"]}]), "nett", '"nett" is no component with weights'),
        (changed(walk=[{"id": "x"}]), "{", "runs, or stages"),
        (changed(walk=[{"id": "x", "runs": ["net"], "loop": "often"}]), "often", '"steps", "times"'),
        (changed(call="prompt: str, ("), "prompt", "no arguments of a call"),
        (changed(sequence=5), '"sequence": 5', "expected string or null, found 5"),
    ],
)  # fmt: skip
def test_a_broken_file(values: Any, at: str, said: str, tmp_path: Path, plan: Path) -> None:
    file = written(tmp_path, values)
    result = planner.validate(plan, catalogue=file)
    problem = result.errors[0]
    assert problem.code.name == "broken-catalogue"
    assert said in problem.message
    assert problem.span is not None
    assert problem.span.file == str(file)
    assert at in file.read_text().split("\n")[problem.span.line - 1]
    with pytest.raises(planner.PlanError):
        planner.compile(plan, catalogue=file)


@pytest.mark.parametrize("name", ["gone.json", ".", "nul\0byte"])
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    values, found, _ = read_own(tmp_path / name)
    assert values is None
    assert [d.code.name for d in found] == ["broken-catalogue"]


def test_a_file_that_changed_is_read_again(tmp_path: Path, plan: Path) -> None:
    file = written(tmp_path, GOOD)
    assert planner.validate(plan, catalogue=file)
    written(tmp_path, "{")
    assert not planner.validate(plan, catalogue=file)
