"""Every format of every backend on a CUDA device: ``pytest -m gpu tests/gpu``. The picture under a plan is
that of the same pipeline, loaded the same way, on the device as a whole."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import ON_CUDA
from quantized import by_cast, formats, picture, plain, plan_of, write_lora

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.quantization.backends import BACKENDS
from planner.quantization.matrix import row_of

pytestmark = ON_CUDA

POLICIES = ["resident", "offload", "stream"]
CELLS = [
    (name, kind)
    for name in ("bitsandbytes", "torchao", "quanto", "layerwise_cast")
    for kind in BACKENDS[name].types
]
NEEDS = {"int4_weight_only": "mslk"}
"""Packages that torchao needs for a format."""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora"))


def plan_for(folder: Path, backend: str, kind: str, policy: str, lora: Path | None = None) -> Any:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    options = ", group_size: 32" if kind == "int4_weight_only" else ""
    rule = f"backend: {backend}, {BACKENDS[backend].type_key}: {kind}{options}"
    return plan_of(
        folder,
        "device: cuda",
        f"components: {{transformer: {policy}}}",
        f"quantization: [{{component: transformer, {rule}}}]",
        *([f"loras: [{{lora_id: '{lora}', lora_scale: 0.5}}]"] if lora is not None else []),
    )


def whole(plan: Any, backend: str, kind: str) -> torch.Tensor:
    """The pipeline of ``plan``, quantized, on the device."""
    pipe = planner.load_pipeline(plan)
    if backend == "layerwise_cast":
        by_cast(getattr(torch, kind), pipe)
    return picture(pipe.to("cuda"))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("backend", "kind"), CELLS, ids=str)
def test_the_picture_is_that_of_the_same_on_the_device(
    backend: str, kind: str, policy: str, tmp_path: Path
) -> None:
    if row_of(backend, kind).cells[policy].verdict == "no":
        with pytest.raises(PlanError, match="P376"):
            plan_for(tmp_path, backend, kind, policy)
        return
    plan = plan_for(tmp_path, backend, kind, policy)
    expected = whole(plan, backend, kind)
    pipe = planner.load_pipeline(plan)
    assert {p.device.type for p in pipe.transformer.parameters()} == {"cpu"}
    with planner.apply(plan, pipe):
        assert set(formats(pipe.transformer).values()) == {(backend, kind)}
        assert torch.equal(picture(pipe), expected)
        assert torch.equal(picture(pipe), expected)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("policy", ["offload", "stream"])
@pytest.mark.parametrize(("backend", "kind"), CELLS, ids=str)
def test_with_a_lora(backend: str, kind: str, policy: str, lora: Path, tmp_path: Path) -> None:
    if "no" in {row_of(backend, kind).cells[column].verdict for column in (policy, "lora")}:
        with pytest.raises(PlanError, match="P376"):
            plan_for(tmp_path, backend, kind, policy, lora)
        return
    plan = plan_for(tmp_path, backend, kind, policy, lora)
    expected = whole(plan, backend, kind)
    pipe = planner.load_pipeline(plan)
    with planner.apply(plan, pipe):
        assert torch.equal(picture(pipe), expected)


@pytest.mark.parametrize("cast", ["float8_e4m3fn", "float8_e5m2"])
def test_a_pipeline_that_lies_on_the_device_is_cast_and_given_back(cast: str, tmp_path: Path) -> None:
    pipe = plain(tmp_path).to("cuda")
    before = picture(pipe)
    weights = dict(pipe.transformer.named_parameters())
    session = planner.apply(plan_for(tmp_path, "layerwise_cast", cast, "offload"), pipe)
    assert not torch.equal(picture(pipe), before)
    session.remove()
    assert all(tensor is weights[name] for name, tensor in pipe.transformer.named_parameters())
    assert torch.equal(picture(pipe.to("cuda")), before)


def test_device_memory_of_a_cast_component_is_that_of_its_bytes(tmp_path: Path) -> None:
    """Nothing in full precision is left beside them."""
    plan = plan_for(tmp_path, "layerwise_cast", "float8_e4m3fn", "resident")
    pipe = planner.load_pipeline(plan)
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    before = torch.cuda.memory_allocated()
    with planner.apply(plan, pipe) as session:
        picture(pipe)
        torch._C._cuda_clearCublasWorkspaces()
        held = session.schedule.course.size("transformer")
        assert held <= torch.cuda.memory_allocated() - before + session.device.own <= held + (8 << 20)
