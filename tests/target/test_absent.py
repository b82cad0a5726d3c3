"""What a plan says of a component that the class may have, and that is None in this pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

import planner
from planner.diagnostics.diagnostic import PlanError, Severity

WAN = "version: 1\npipeline: {class: WanPipeline, source: 'builtin:tiny-wan'}\n"
RULE = "quantization: [{component: transformer_2, backend: BACKEND}]\n"
BACKENDS = ("quanto, type: int8", "torchao, type: int8_weight_only", "layerwise_cast")


def plan(folder: Path, more: str) -> Path:
    path = folder / "x.plan.yaml"
    path.write_text(WAN + more)
    return path


@pytest.mark.parametrize(
    "more",
    [
        "components: {transformer_2: stream}\n",
        "components: {transformer_2: {policy: resident}}\n",
        "exclude: [transformer_2]\n",
        "order: text_encoder -> transformer -> transformer_2 -> vae\n",
        "stages: [{id: a, runs: [transformer, transformer_2]}]\n",
    ],
)
def test_nothing_is_planned_for_it_and_that_is_said(more: str, tmp_path: Path) -> None:
    result = planner.validate(plan(tmp_path, more))
    assert result.ok
    (note,) = (d for d in result.notes if d.code.id == "P359")
    assert note.span is not None
    assert (
        (tmp_path / "x.plan.yaml")
        .read_text()
        .splitlines()[note.span.line - 1][note.span.column - 1 :]
        .startswith("transformer_2")
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rule_takes_nothing_of_it(backend: str, tmp_path: Path) -> None:
    path = plan(tmp_path, RULE.replace("BACKEND", backend))
    assert [d.code.id for d in planner.validate(path).errors] == ["P374"]
    with pytest.raises(PlanError):
        planner.load_pipeline(planner.load(path))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rule_that_may_take_nothing_is_fine(backend: str, tmp_path: Path) -> None:
    path = plan(tmp_path, RULE.replace("BACKEND", f"{backend}, required: false"))
    result = planner.validate(path)
    assert not [d for d in result.diagnostics if d.severity is not Severity.NOTE]
    pipe = planner.load_pipeline(planner.load(path))
    assert pipe.transformer_2 is None
    planner.apply(path, pipe, device="sim:0").remove()


@pytest.mark.parametrize("source", ['"~\\0"', '"./x\\0"', '"\\0"', '"a/b\\0"'])
@pytest.mark.parametrize(
    "where", ["pipeline: {class: WanPipeline, source: %s}", "components: {vae: {source: %s}}"]
)
def test_a_source_that_no_path_can_have(where: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    more = where % source + "\n"
    path.write_text(("version: 1\n" if "pipeline" in where else WAN) + more)
    assert [d.code.id for d in planner.validate(path).errors] == ["P360"]
