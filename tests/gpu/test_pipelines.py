"""Every class that can be built, on a CUDA device: under a plan the picture of the pipeline moved whole."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from cards import ON_CUDA
from pipelines import wide
from pipelines.all import CASES, build, run, same
from pipelines.plans import plan_for, schedule_for

from planner.device.torch_device import TorchDevice
from planner.session.attach import attach_schedule

pytestmark = ON_CUDA


MOVES_ITSELF = {"image_normalizer"}
"""A component that makes new parameters wherever it is sent, past any session (StableUnCLIP's)."""


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    """By kernels that give one picture each time: on an H200 Stable Cascade's give another in one of four."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", [*CASES, *wide.WIDE])
def test_offloaded_and_in_blocks_as_on_the_device(name: str) -> None:
    whole = build(name).to("cuda")
    expected = run(whole, name)
    if not same(run(whole, name), expected):
        pytest.skip("on this device it gives two pictures by itself")
    del whole
    for policy in ("offload", "{policy: stream, prefetch: 1}"):
        pipe = build(name)
        names = [n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)]
        plan = plan_for(pipe, f"components: {{{', '.join(f'{n}: {policy}' for n in names)}}}")
        device = TorchDevice(torch.device("cuda:0"))
        session = attach_schedule(plan, schedule_for(plan, pipe), pipe, device)
        for _ in range(3):
            assert same(run(pipe, name), expected)
        session.remove()
        assert device.own == 0
        home = [pipe.components[n] for n in names if n not in MOVES_ITSELF]
        assert all(p.device.type == "cpu" for component in home for p in component.parameters())
