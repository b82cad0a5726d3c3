"""Plans made of settings, run: on the virtual accelerator, with the tool's moves where they are known."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from covering import covering
from pipelines.all import build, run, same
from pipelines.plans import attached, judged, read

from planner.plan.model import Idle, Policy
from planner.target.loaded import describe
from planner.translation.convert import from_tool
from planner.virtual.audit import snapshot
from planner.virtual.backend import install

PIPELINES = ("StableDiffusionXLPipeline", "FluxPipeline", "WanPipeline:two")
WHOLE = [  # settings whose plans move whole components
    ("model-cpu-offload", {}),
    ("device-map", {"": 0}),
    ("device-map", {"": 0, "vae": "cpu", "text_encoder": "disk"}),
    ("components-manager", {"memory_reserve_margin": 0}),
    ("mmgp", {"profile_no": 1, "quantizeTransformer": False}),
    ("vllm-omni", {"enable_cpu_offload": True}),
    ("sglang", {"all": "component-offload", "vae": "resident"}),
]

_truth: dict[str, tuple[torch.Tensor, ...]] = {}


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


def expected(name: str) -> tuple[torch.Tensor, ...]:
    if name not in _truth:
        _truth[name] = run(build(name).to("sim:0"), name)
    return _truth[name]


@pytest.mark.parametrize(("wanted", "name"), covering(WHOLE, PIPELINES), ids=str)
def test_the_picture_is_the_same_and_what_is_resident_stays(
    wanted: tuple[str, dict[str, Any]], name: str
) -> None:
    tool, settings = wanted
    pipe = build(name)
    made, _ = from_tool(tool, settings, describe(pipe))
    plan = read(made)
    truth = snapshot(pipe)
    session, device = attached(plan, pipe)
    said = judged(session, device, pipe, name, truth)
    assert same(said.outputs, expected(name))
    assert said.bad == []
    stays = {n for n, c in plan.components.items() if c.policy is Policy.RESIDENT}
    left = {event[1] for event in said.seen.events if event[0] not in ("load", "use")}
    assert left.isdisjoint(stays)
    moving = {n for n, c in plan.components.items() if c.policy is Policy.OFFLOAD}
    assert left or not moving or plan.idle is Idle.KEEP
    session.remove()
    assert device.ledger.live == 0


@pytest.mark.parametrize("name", PIPELINES)
def test_model_offload_keeps_the_sequence_of_what_is_there(name: str) -> None:
    pipe = build(name)
    made, _ = from_tool("model-cpu-offload", {}, describe(pipe))
    order = re.search(r"^order: (.*?)  #", made, re.MULTILINE)
    assert order is not None
    there = [n for n in type(pipe).model_cpu_offload_seq.split("->") if pipe.components[n] is not None]
    assert order[1].split(" -> ") == there
