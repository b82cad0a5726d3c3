"""torch.compile and a plan. The virtual device cannot be traced, so a CPU stands for an accelerator."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for, schedule_for

from planner.device.torch_device import TorchDevice
from planner.diagnostics.diagnostic import PlanError
from planner.session.attach import attach_schedule

CLS = "FluxPipeline"
PLANS = {"whole": "components: {transformer: offload}", "streamed": "components: {transformer: stream}"}


class Cpu(TorchDevice):
    """torch's way to a device, without streams: copies are done when they are asked for."""

    def record(self, lane: Any) -> Any:
        return None

    def wait(self, lane: Any, event: Any) -> None:
        pass

    def copy(self, piece: Any, offset: int, source: torch.Tensor) -> None:
        piece.bytes[offset : offset + source.numel()].copy_(source)


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


@pytest.mark.parametrize(
    ("plan", "whole"),
    [pytest.param("whole", False, marks=pytest.mark.wide), ("whole", True), ("streamed", False)],
)
def test_compiled_pictures_are_the_same_and_nothing_is_compiled_again(plan: str, whole: bool) -> None:
    expected = run(compiled(build(CLS), whole), CLS)
    pipe = compiled(build(CLS), whole)
    read = plan_for(pipe, PLANS[plan])
    with attach_schedule(read, schedule_for(read, pipe), pipe, Cpu(torch.device("cpu"))):
        assert same(run(pipe, CLS), expected)
        before = graphs()
        for _ in range(2):
            assert same(run(pipe, CLS), expected)
        assert graphs() == before
    assert same(run(pipe, CLS), expected)


def compiled(pipe: Any, whole: bool) -> Any:
    torch._dynamo.reset()
    options: dict[str, Any] = {"backend": "eager", "fullgraph": True}
    if whole:
        pipe.transformer.compile(**options)
    else:
        for block in (*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks):
            block.compile(**options)
    return pipe


def graphs() -> dict[str, int]:
    from torch._dynamo.utils import counters

    return copy.deepcopy(dict(counters["stats"]))
