"""What torch.compile made for a CUDA device: the same picture under a plan, and nothing is compiled again."""

from __future__ import annotations

import copy

import pytest
import torch
from cards import ON_CUDA
from pipelines.all import build, run, same
from pipelines.plans import plan_for, schedule_for

from planner.device.torch_device import TorchDevice
from planner.session.attach import attach_schedule

pytestmark = ON_CUDA

CLS = "FluxPipeline"
WAYS = {
    "whole": lambda model: model.compile(fullgraph=True),
    "whole, in CUDA graphs": lambda model: model.compile(fullgraph=True, mode="reduce-overhead"),
    "its blocks": lambda model: model.compile_repeated_blocks(fullgraph=True),
}


@pytest.mark.parametrize(
    ("policy", "way"),
    [*(("offload", way) for way in WAYS), ("{policy: stream, prefetch: 1}", "its blocks")],
)
def test_compiled_as_on_the_device(policy: str, way: str) -> None:
    torch._dynamo.reset()
    pipe = build(CLS)
    WAYS[way](pipe.transformer)
    pipe.to("cuda")
    for _ in range(3):  # until no shape is new to it: other graphs round otherwise
        expected = run(pipe, CLS)
    pipe.to("cpu")
    plan = plan_for(pipe, f"components: {{transformer: {policy}}}")
    device = TorchDevice(torch.device("cuda:0"))
    with attach_schedule(plan, schedule_for(plan, pipe), pipe, device):
        assert same(run(pipe, CLS), expected)
        before = graphs()
        for _ in range(3):
            assert same(run(pipe, CLS), expected)
        assert graphs() == before
    assert device.own == 0
    pipe.to("cuda")
    assert same(run(pipe, CLS), expected)


def graphs() -> dict[str, int]:
    from torch._dynamo.utils import counters

    return copy.deepcopy(dict(counters["stats"]))
