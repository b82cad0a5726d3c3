"""The schema by itself: its size, its words, and one narrowed to a class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from editor.server import Server, command
from jsonschema import Draft202012Validator

import planner
from planner.cli.main import run
from planner.document.schema import schema_text
from planner.editor.classes import entries_of, offers
from planner.editor.schema import editor_schema, schema_json
from planner.target.catalogue import find, names

MOST = 150_000
PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))


def shapes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from shapes(inner)


def test_it_is_small_and_the_same_each_time() -> None:
    assert schema_json() == schema_json() == schema_text()
    assert len(schema_text().encode()) <= MOST


def test_nothing_that_is_offered_is_a_mapping() -> None:
    for shape in shapes(editor_schema()["$defs"]):
        if isinstance(shape.get("examples"), list):
            assert not [one for one in shape["examples"] if isinstance(one, (dict, list))], shape


@pytest.mark.parametrize("target", [None, "FluxPipeline", "WanPipeline"])
def test_every_key_has_a_title_what_it_means_and_an_example(target: str | None) -> None:
    definitions = editor_schema(find(target) if target else None)["$defs"]
    keys = [
        (name, key, said)
        for name, one in definitions.items()
        for shape in shapes(one)
        for key, said in shape.get("properties", {}).items()
        if isinstance(said, dict) and "$ref" not in said and "description" in said
    ]
    assert len(keys) > 80
    for name, key, said in keys:
        assert said.get("title"), (name, key)
        shown = "Example:" in said.get("markdownDescription", "") or said.get("examples")
        assert shown or "enum" in said or said.get("title", "").startswith("run."), (name, key)


def test_every_reference_leads_somewhere() -> None:
    for schema in (editor_schema(), editor_schema(find("FluxPipeline"))):
        named = {shape["$ref"] for shape in shapes(schema) if isinstance(shape.get("$ref"), str)}
        assert named <= {f"#/$defs/{name}" for name in schema["$defs"]}


@pytest.mark.parametrize("form", ["{}", '{{"class": "{}"}}'])
def test_each_class_is_offered_what_it_has(form: str) -> None:
    """As a validator reads it, for all classes; the server is asked for some."""
    definitions = json.loads(schema_text())["$defs"]
    branches = definitions["of-class"]["allOf"]
    tests = [Draft202012Validator({**branch["if"], "$defs": definitions}) for branch in branches]
    for cls in names():
        target = find(cls)
        assert target is not None
        said = form.format(cls)
        pipeline = json.loads(said) if said.startswith("{") else said
        found: dict[str, list[str]] = {"components": [], "order": []}
        for branch, test in zip(branches, tests, strict=True):
            if not test.is_valid({"pipeline": pipeline}):
                continue
            for pattern, shape in branch["then"]["patternProperties"].items():
                if pattern == "^components$":
                    found["components"] += shape["properties"]
                if re.search(pattern, "order"):
                    items = definitions[shape["items"]["$ref"].rpartition("/")[2]]
                    found["order"] += [one["bodyText"] for one in items["defaultSnippets"]]
        assert sorted(found["components"]) == sorted(target.modules), cls
        assert sorted(found["order"]) == sorted([*target.modules, *entries_of(target)]), cls


def test_no_rule_takes_a_class_that_is_only_begun() -> None:
    (rule,) = offers().branches
    definitions = offers().definitions
    known = Draft202012Validator({**rule["if"], "$defs": definitions})
    assert known.is_valid({"pipeline": "FluxPipeline"})
    assert known.is_valid({"pipeline": {"class": "FluxPipeline"}})
    for other in ("Flux", "FluxPipelines", "MyFluxPipeline", "", None, {}, {"class": None}, 5):
        assert not known.is_valid({"pipeline": other}), other


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_narrowed_to_a_plan_it_takes_that_plan(plan: Path, tmp_path: Path) -> None:
    import yaml

    place = tmp_path / "plan.v1.schema.json"
    assert run(["schema", "--for", str(plan), "-o", str(place)]) == 0
    schema = json.loads(place.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    checker = Draft202012Validator(schema)
    assert not [*checker.iter_errors(yaml.safe_load(plan.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("cls", ["FluxPipeline", "WanPipeline", "KandinskyV22CombinedPipeline"])
def test_narrowed_it_judges_names(cls: str) -> None:
    checker = Draft202012Validator(editor_schema(find(cls)))
    plan = {"version": 1, "pipeline": cls}
    assert checker.is_valid({**plan, "run": {"seed": 1, "num_inference_steps": 2}})
    assert not checker.is_valid({**plan, "components": {"text_encodr": "stream"}})
    assert not checker.is_valid({**plan, "run": {"num_inference_step": 4}})
    assert checker.is_valid({**plan, "pipeline": "Other", "components": {"text_encodr": "stream"}})


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\npipeline: WanPipeline\ncomponents:\n",
        "pipeline: {class: WanPipeline}\nstages: [{id: a}]\n",
        "version: 2\npipeline: {class: WanPipeline, source: ./not-there}\nbudgt: 5\n",
    ],
)
def test_a_plan_that_is_being_written_is_enough(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "x.plan.yaml"
    plan.write_text(text, encoding="utf-8")
    assert run(["schema", "--for", str(plan)]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]["classes"]["enum"] == ["WanPipeline"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("version: 1\n", 2), ("pipeline: {class: [1]}\n", 2), ("pipeline: FluxPipelin\n", 1), ("{", 1)],
)
def test_a_plan_without_a_class_is_told(text: str, code: int, tmp_path: Path) -> None:
    plan = tmp_path / "x.plan.yaml"
    plan.write_text(text, encoding="utf-8")
    place = tmp_path / "s.json"
    assert run(["schema", "--for", str(plan), "-o", str(place)]) == code
    assert not place.exists()


@pytest.mark.parametrize("cls", names()[::25])
def test_the_order_that_a_narrowed_one_offers_is_one(cls: str, tmp_path: Path) -> None:
    order = editor_schema(find(cls))["$defs"]["whole"]["properties"]["order"]["anyOf"][1]["enum"]
    for text in order:
        plan = tmp_path / "x.plan.yaml"
        plan.write_text(json.dumps({"version": 1, "pipeline": cls, "order": text}), encoding="utf-8")
        result = planner.validate(plan)
        assert not [d for d in (*result.errors, *result.warnings) if d.code.id[:2] in ("P2", "P3", "P4")]


@pytest.mark.skipif(command() is None, reason="no node, or no yaml-language-server")
def test_the_server_with_a_narrowed_one(tmp_path: Path) -> None:
    place = tmp_path / "plan.v1.schema.json"
    place.write_text(schema_json(find("WanPipeline")), encoding="utf-8")
    server = Server(place)
    head = "version: 1\npipeline: WanPipeline\n"
    try:
        assert set(server.completions(head + "components:\n  |\n")) == {
            *("text_encoder", "transformer", "transformer_2", "vae")
        }
        (order,) = server.completions(head + "order: |\n")
        assert order.startswith("text_encoder -> ")
        arguments = server.completions(head + "run:\n  |\n")
        assert {"num_frames", "guidance_scale_2", "seed"} < {*arguments}
        assert len(arguments) == len({*arguments})
        inside = "stages:\n  - id: a\n    stages:\n      - id: b\n        runs: [|]\n"
        assert set(server.completions(head + inside)) >= {"transformer_2", "vae.decode"}
        assert "unet" not in server.completions(head + inside)
        assert "WanTransformer3DModel" in server.hover(head + "components: {trans|former: stream}\n")
        ((_, said),) = server.diagnostics(head + "components: {unet: stream}\n")
        assert said.startswith("components of WanPipeline: ")
        ((_, said),) = server.diagnostics(head + "run: {num_inference_step: 4}\n")
        assert said.startswith("arguments of WanPipeline that a plan can write: ")
    finally:
        server.close()
