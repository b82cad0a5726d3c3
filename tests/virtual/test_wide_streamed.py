"""Every class that can be built, each component in blocks: the picture of the pipeline moved whole."""

from __future__ import annotations

import pytest
import torch
from pipelines import wide
from pipelines.all import CASES, build, run, same
from pipelines.plans import attached, judged, plan_for

from planner.virtual.audit import snapshot
from planner.virtual.backend import install

NAMES = [*CASES, *wide.WIDE]
KNOWN = {
    # a component that makes new parameters when it is sent somewhere: no ledger has those
    **dict.fromkeys(("StableUnCLIPPipeline", "StableUnCLIPImg2ImgPipeline"), ("P759", "P760")),
    # it keeps views of two buffers of its condition encoder: that memory is not freed before the call ends
    "AceStepPipeline": ("P759", "P760"),
    # two components that have modules in common: each brings them, the plan counts them once
    **dict.fromkeys(("ZImageControlNetPipeline", "ZImageControlNetInpaintPipeline"), ("P759", "P760")),
}
"""What is said of classes beside what should not be."""


@pytest.mark.wide
@pytest.mark.parametrize("name", NAMES)
def test_each_component_in_blocks_gives_the_same_picture(name: str) -> None:
    install()
    expected = run(build(name).to("sim:0"), name)
    pipe = build(name)
    names = [n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)]
    plan = plan_for(
        pipe, f"components: {{{', '.join(f'{n}: {{policy: stream, prefetch: 1}}' for n in names)}}}"
    )
    truth = snapshot(pipe)
    session, device = attached(plan, pipe)
    said = judged(session, device, pipe, name, truth)
    session.remove()
    assert same(said.outputs, expected)
    assert [str(d) for d in said.say if d.code.id not in KNOWN.get(name, ())] == []
    assert device.ledger.live == 0
