"""torch.compile and a plan. The virtual device cannot be traced, so what runs compiled needs a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for

import planner
from planner.diagnostics.diagnostic import PlanError

CLS = "FluxPipeline"
PLANS = {
    "whole": "components: {transformer: offload}",
    "streamed": "components: {transformer: stream}",
}
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("way", ["the module's own", "a module around it"])
def test_a_streamed_component_that_is_compiled_whole_is_refused(way: str) -> None:
    pipe = build(CLS)
    if way == "the module's own":
        pipe.transformer.compile(backend="eager")
    else:
        pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    session, device = attached(plan_for(pipe, PLANS["streamed"]), pipe)
    with pytest.raises(PlanError, match="P722"):
        run(pipe, CLS)
    assert device.ledger.live == 0
    session.remove()


@gpu
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("whole", [False, True])
def test_compiled_pictures_are_the_same_and_nothing_is_compiled_again(plan: str, whole: bool) -> None:
    if whole and plan == "streamed":
        pytest.skip("refused")
    expected = run(compiled(build(CLS), whole).to("cuda"), CLS)
    pipe = compiled(build(CLS), whole)
    with planner.apply(plan_for(pipe, PLANS[plan]), pipe):
        assert same(run(pipe, CLS), expected)
        before = frames()
        for _ in range(2):
            assert same(run(pipe, CLS), expected)
        assert frames() == before


def compiled(pipe: Any, whole: bool) -> Any:
    torch._dynamo.reset()
    options: dict[str, Any] = {"backend": "aot_eager", "fullgraph": True}
    pipe.transformer.eval()
    if whole:
        pipe.transformer.compile(**options)
    else:
        blocks = (*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks)
        for block in blocks:
            block.compile(**options)
    return pipe


def frames() -> dict[str, int]:
    from torch._dynamo.utils import counters

    return copy.deepcopy(dict(counters["stats"]))
