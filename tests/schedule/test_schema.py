"""Compiled schedules are what ``schemas/schedule.v1.schema.json`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from models import plan, stage, target

from planner.graph.build import build_graph
from planner.plan.model import Plan, Policy
from planner.schedule.lower import lower
from planner.schedule.write import to_dict, to_json
from planner.target.model import Target

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "schedule.v1.schema.json").read_text(encoding="utf-8")
)
SIZES: dict[str, int | None] = {"text_encoder": 10, "text_encoder_2": 40, "unet": 100, "vae": 20}
ORDER = "text_encoder -> text_encoder_2 -> unet -> vae"


def written(made: Plan, known: Target | None = None) -> dict[str, Any]:
    graph, _ = build_graph(made, known or target(SIZES))
    assert graph is not None
    schedule, found = lower(graph)
    assert schedule is not None, found
    values: dict[str, Any] = json.loads(to_json(schedule))
    assert values == to_dict(schedule)
    return values


@pytest.mark.parametrize(
    "values",
    [
        written(plan(ORDER)),
        written(plan(ORDER, vram=200, semantics="diffusers")),
        written(plan("vae.encode -> text_encoder -> unet -> vae.decode", vram=150, idle="keep")),
        written(plan("unet -> vae", exclude=["text_encoder"], policies={"vae": Policy.RESIDENT})),
        written(plan(ORDER), target({"text_encoder": None, "text_encoder_2": 40, "unet": 100, "vae": 20})),
        written(
            plan(
                [
                    stage("prompt", "text_encoder", optional=True),
                    stage("chunks", [stage("denoise", "unet", loop="steps"), stage("d", "vae")], loop="3"),
                ]
            )
        ),
    ],
)
def test_it_is_what_its_schema_says(values: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(values)


def test_the_schema_refuses_what_a_schedule_never_has() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    values = written(plan(ORDER))
    harm: dict[str, Any]
    for harm in ({"format": 0}, {"extra": 1}, {"steps": [{}]}, {"semantics": "eager"}, {"peak": -1}):
        assert not validator.is_valid(values | harm), harm
    for key in values:
        assert not validator.is_valid({k: v for k, v in values.items() if k != key}), key
    step = values["steps"][0]
    for harm in ({"do": "move"}, {"stage": ""}, {"origin": {"line": 0, "column": 1}}, {"extra": 1}):
        assert not validator.is_valid(values | {"steps": [step | harm]}), harm


def test_every_key_is_described_and_in_the_order_in_which_it_is_written() -> None:
    values = written(plan(ORDER))
    assert list(values) == list(SCHEMA["properties"])
    assert all(said.get("description") for said in SCHEMA["properties"].values())
    step = SCHEMA["properties"]["steps"]["items"]
    assert all(said.get("description") for said in step["properties"].values())
    used = next(s for s in values["steps"] if s["do"] == "use")
    assert [key for key in step["properties"] if key in used] == list(used)
