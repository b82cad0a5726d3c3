"""A report as JSON: its schema, its order, and whether the budget was kept."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from models import MIB, plan, target

from planner.graph.build import build_graph
from planner.report.build import report_of
from planner.report.model import BudgetInfo, DeviceInfo, Measured, Report
from planner.schedule.lower import lower

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "report.v1.schema.json").read_text(encoding="utf-8")
)


def made(budget: BudgetInfo | None = None, vram: int | None = 200, **measured: Any) -> Report:
    said = plan("text_encoder -> unet -> vae", vram=vram)
    graph, _ = build_graph(said, target({"text_encoder": 10, "unet": 100, "vae": 20}))
    assert graph is not None
    schedule, _ = lower(graph)
    assert schedule is not None
    figures: dict[str, Any] = {"peak_weights": 100 * MIB, "moved": 130 * MIB, "seconds": {}, "total": 1.0}
    return report_of(
        schedule, said, Measured(**(figures | measured)), DeviceInfo(name="sim:0"), budget=budget
    )


@pytest.mark.parametrize(
    "report",
    [
        made(),
        made(vram=None),
        made(
            BudgetInfo(budget=150 * MIB, overhead=MIB),
            peak_allocated=1,
            peak_reserved=2,
            seconds={"unet": 0.25},
            departures=("a",),
            misses=("b",),
        ),
        made(misses=()),
        made(load=3.25, apply=0.5),
    ],
)
def test_it_is_what_its_schema_says(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(report.to_json()))


def test_the_schema_refuses_what_a_report_never_has() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    harm: dict[str, Any]
    for harm in ({"format": 2}, {"extra": 1}, {"seed": "x"}, {"image": None}, {"measured": {}}):
        assert not validator.is_valid(made().to_dict() | harm), harm
    for key in made().to_dict():
        assert not validator.is_valid({k: v for k, v in made().to_dict().items() if k != key}), key


def test_every_key_of_the_schema_is_described() -> None:
    assert list(undescribed(SCHEMA, "")) == []


def test_the_same_report_gives_the_same_bytes_in_the_same_order() -> None:
    text = made(seconds={"z": 1.0, "a": 2.0}).to_json()
    assert text == made(seconds={"z": 1.0, "a": 2.0}).to_json()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == list(SCHEMA["properties"]) == SCHEMA["required"]
    assert list(json.loads(text)["measured"]["seconds"]) == ["z", "a"]  # the order of the stages


def test_loading_and_applying_are_in_it_as_they_were_predicted_and_took() -> None:
    both = {key: made(load=3.25, apply=0.5).to_dict()[key] for key in ("promised", "measured")}
    assert [(said["load"], said["apply"]) for said in both.values()] == [(None, None), (3.25, 0.5)]
    report = replace(made(), promised=replace(made().promised, load=1 / 3, apply=2.0))
    assert report.to_dict()["promised"] | {"load": 0.333333, "apply": 2.0} == report.to_dict()["promised"]
    assert (report.to_dict()["measured"]["load"], report.to_dict()["measured"]["apply"]) == (None, None)


def test_promises_come_from_the_schedule() -> None:
    report = made()
    assert (report.promised.peak_weights, report.promised.moved) == (100 * MIB, 130 * MIB)
    assert [(row.stage, row.moves) for row in report.timeline] == [
        ("text_encoder", 10 * MIB),
        ("unet", 100 * MIB),
        ("vae", 20 * MIB),
    ]
    assert report.budget == BudgetInfo(budget=200 * MIB)


@pytest.mark.parametrize(
    ("budget", "counted", "within"),
    [
        (BudgetInfo(budget=100 * MIB), {}, True),
        (BudgetInfo(budget=100 * MIB, overhead=1), {}, False),
        (BudgetInfo(budget=120 * MIB), {"peak_allocated": 121 * MIB}, False),
        (BudgetInfo(budget=121 * MIB), {"peak_allocated": 110 * MIB, "peak_reserved": 121 * MIB}, True),
        (BudgetInfo(), {"peak_reserved": 1 << 50}, None),
    ],
)
def test_the_budget_is_for_the_most_that_any_counter_saw(
    budget: BudgetInfo, counted: dict[str, int], within: bool | None
) -> None:
    assert made(budget, **counted).within is within


def test_reports_need_no_torch() -> None:
    code = (
        "import sys, planner.report.render, planner.report.build; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'diffusers', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def undescribed(schema: dict[str, Any], at: str) -> Any:
    """Keys of objects that say nothing about themselves."""
    if not schema.get("description"):
        yield at
    for key, value in schema.get("properties", {}).items():
        yield from undescribed(value, f"{at}/{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from undescribed(schema[key], f"{at}/{key}")
