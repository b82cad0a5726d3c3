"""Overrides mean one thing: wherever they are given, they are as if the plan's text had said so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.plan.model import Idle, Plan
from planner.plan.write import to_yaml

TEXT = """\
version: 1
pipeline: StableDiffusionXLPipeline
order: text_encoder -> text_encoder_2 -> unet -> vae
budget: {vram: 11GiB}
"""
OVERRIDES = ["budget.vram=9GiB", "idle=keep", "components.unet=stream"]


def a_path(folder: Path) -> Path:
    path = folder / "a.plan.yaml"
    path.write_text(TEXT)
    return path


def a_part(folder: Path) -> Path:
    a_path(folder)
    path = folder / "b.plan.yaml"
    path.write_text("extends: a.plan.yaml\nbudget: {ram: 64GiB}\n")
    return path


def a_plan(folder: Path) -> Plan:
    return planner.load(a_path(folder))


def a_merged_plan(folder: Path) -> Plan:
    return planner.load(a_part(folder))


def set_before(folder: Path) -> Plan:
    return planner.load(
        a_path(folder), overrides=["idle=release", "budget.ram=32GiB", "components.vae=resident"]
    )


def file_gone(folder: Path) -> Plan:
    plan = a_plan(folder)
    Path(plan.document.sources[0].name).unlink()
    return plan


def file_changed(folder: Path) -> Plan:
    plan = a_plan(folder)
    Path(plan.document.sources[0].name).write_text("version: 1\npipeline: FluxPipeline\n")
    return plan


def translated(folder: Path) -> Plan:
    return planner.translate("StableDiffusionXLPipeline", improve=True)


def changed_in_python(folder: Path) -> Plan:
    return replace(a_plan(folder), name="other", idle=Idle.KEEP)


SOURCES = [
    *(a_path, a_part, a_plan, a_merged_plan, set_before),
    *(file_gone, file_changed, translated, changed_in_python),
]


def of_validate(source: Any, overrides: list[str]) -> Plan | None:
    return planner.validate(source, overrides=overrides).plan


def of_load(source: Any, overrides: list[str]) -> Plan:
    return planner.load(source, overrides=overrides)


def of_compile(source: Any, overrides: list[str]) -> Plan:
    return planner.compile(source, overrides=overrides).plan


def of_one_after_another(source: Any, overrides: list[str]) -> Plan:
    for override in overrides:
        source = planner.load(source, overrides=[override])
    return source


ENTRIES = [of_validate, of_load, of_compile, of_one_after_another]


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda f: f.__name__)
def test_every_entry_gives_one_plan(tmp_path: Path, source: Callable[[Path], Any], entry: Any) -> None:
    given = source(tmp_path)
    before = given if isinstance(given, Plan) else planner.load(given)
    said = to_yaml(before)
    plan = entry(given, OVERRIDES)
    assert plan is not None
    assert (plan.name, plan.pipeline.cls) == (before.name, before.pipeline.cls)
    assert (plan.budget.vram.text, plan.idle) == ("9GiB", Idle.KEEP)
    assert plan.components["unet"].policy.value == "stream"
    assert plan.budget.ram == before.budget.ram
    assert {*before.components} <= {*plan.components}
    assert to_yaml(before) == said, "the plan that was given is as it was"
    assert to_yaml(entry(given, OVERRIDES)) == to_yaml(plan)
    again = tmp_path / "as-text.plan.yaml"
    again.write_text(to_yaml(plan))
    assert to_yaml(planner.load(again)) == to_yaml(plan)


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_without_overrides_a_plan_is_itself(tmp_path: Path, source: Callable[[Path], Any]) -> None:
    given = source(tmp_path)
    if isinstance(given, Plan) and source is not changed_in_python:
        assert planner.load(given) is given
        assert planner.compile(given).plan is given


def test_the_last_one_counts(tmp_path: Path) -> None:
    plan = planner.load(a_path(tmp_path), overrides=["budget.vram=9GiB", "budget.vram=8GiB"])
    assert plan.budget.vram is not None
    assert plan.budget.vram.text == "8GiB"
    plan = planner.load(plan, overrides=["budget.vram=7GiB"])
    assert plan.budget.vram is not None
    assert plan.budget.vram.text == "7GiB"
    assert (plan.budget.vram.span.file, plan.budget.vram.span.line) == ("--set", 3)


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_a_bad_override_is_the_same_error_everywhere(tmp_path: Path, source: Callable[[Path], Any]) -> None:
    given = source(tmp_path)
    for bad, code in (("budget.vram", "bad-override"), ("budget.vram=9", "number-without-unit")):
        for entry in (planner.load, planner.compile):
            with pytest.raises(planner.PlanError) as caught:
                entry(given, overrides=[bad])
            assert [d.code.name for d in caught.value.diagnostics] == [code]
            assert any(text.name == "--set" for text in caught.value.sources)
        assert [d.code.name for d in planner.validate(given, overrides=[bad]).errors] == [code]


def test_a_plan_has_the_findings_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(TEXT + "workload: {batch: 2}  # plan: ignore[P394]\nloras: [{lora_id: ./a}]\n")
    of_file = planner.validate(path).diagnostics
    assert [str(d) for d in planner.validate(planner.load(path)).diagnostics] == [str(d) for d in of_file]


def test_an_override_beyond_every_depth(tmp_path: Path) -> None:
    result = planner.validate(a_path(tmp_path), overrides=[".".join(["run", *"a" * 5000]) + "=1"])
    assert [d.code.name for d in result.errors] == ["bad-override"]


def test_one_override_may_be_text(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\npipeline: FluxPipeline\n")
    plan = planner.load(path, overrides="budget.vram=8GiB")
    assert plan.budget.vram is not None
    assert plan.budget.vram.text == "8GiB"
    assert planner.load(path, overrides=["budget.vram=8GiB"]) == plan
