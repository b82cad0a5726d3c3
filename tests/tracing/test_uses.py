"""The uses that are traced are those of a real call: component, entry, inputs, order and count."""

from __future__ import annotations

import pytest
import torch
from pipelines import wide  # noqa: F401  # adds to WIDE
from pipelines.all import CASES, arguments, build
from pipelines.registry import WIDE

from planner.cards.kernels import HOPPER
from planner.tracing.trace import trace
from tracing.real import Real, public

DEFAULT = (
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline",
    "FluxPipeline",
    "QwenImagePipeline",
    "WanPipeline",
    "AnimateDiffPipeline",
    "KandinskyV22CombinedPipeline",
    "StableDiffusionControlNetPipeline",
)
NOT_TRACED = {
    "StableDiffusionSAGPipeline": "the pipeline computes on attention maps that it took inside the U-Net",
    "AnyFlowFARPipeline": "flex_attention without torch.compile",
}
"""Why; two of 196."""
NAMES = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.wide) for n in [*CASES, *WIDE]]


@pytest.mark.parametrize("name", NAMES)
def test_the_uses_are_those_of_a_real_call(name: str, request: pytest.FixtureRequest) -> None:
    if name in NOT_TRACED:
        request.applymarker(pytest.mark.xfail(reason=NOT_TRACED[name], strict=True))
    pipe = build(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = trace(pipe, arguments(name), HOPPER)
    uses = [found.uses[turn.use] for turn in found.turns]
    real = Real(pipe)
    entries = {
        (key, method)
        for key, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for method in public(part)
    }
    torch.manual_seed(7)
    with torch.no_grad(), real.methods(pipe, entries):
        pipe(**arguments(name))
    assert [(use.component, use.entry, use.inputs) for use in uses] == real.seen
    assert real.seen
