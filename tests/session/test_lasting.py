"""Pieces that come back at their addresses, as on CUDA: what was bound over them once is bound again."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, judged, plan_for, schedule_for

from planner.virtual.audit import snapshot
from planner.virtual.device import SimDevice

CLS = "FluxPipeline"
WAYS = {
    "offload": "components: {transformer: offload, text_encoder_2: offload}",
    "stream": "components: {transformer: stream, text_encoder_2: stream}",
    "resident": "components: {transformer: resident}",
    "keep": "idle: keep",
}


def counting(device: SimDevice, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    bind = device.bind

    def counted(*given: Any) -> torch.Tensor:
        made.append(given)
        return bind(*given)

    monkeypatch.setattr(device, "bind", counted)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_the_same_tensors_and_the_same_picture(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SimDevice()
    expected = run(build(CLS).to("sim:0"), CLS)
    pipe = build(CLS)
    truth = snapshot(pipe)
    plan = plan_for(pipe, WAYS[way])
    sizes = [size or 0 for size in schedule_for(plan, pipe).course.sizes.values()]
    session, device = attached(plan, pipe, int(sum(sizes) * 1.2), SimDevice(lasting=True))
    made = counting(device, monkeypatch)
    for call in range(3):
        said = judged(session, device, pipe, CLS, truth)
        assert same(said.outputs, expected)
        assert [str(d) for d in said.say] == []
        assert bool(made) is (call == 0), call
        made.clear()
    session.remove()
    assert device.ledger.live == 0


def test_other_flags_are_other_tensors() -> None:
    pipe = build(CLS)
    session, _ = attached(plan_for(pipe), pipe, None, SimDevice(lasting=True))
    weight = pipe.vae.decoder.conv_in.weight
    seen = []
    handle = pipe.vae.decoder.conv_in.register_forward_hook(
        lambda m, *_: seen.append((weakref.ref(m.weight), m.weight.requires_grad))
    )
    for wanted in (False, True, True):
        weight.requires_grad_(wanted)
        run(pipe, CLS)
    handle.remove()
    assert [flag for _, flag in seen] == [False, True, True]
    assert seen[1][0]() is seen[2][0]() is not None
    assert seen[0][0]() is None
    session.remove()


def test_what_was_written_on_the_device_comes_home_each_time() -> None:
    pipe = build(CLS)
    session, _ = attached(plan_for(pipe), pipe, None, SimDevice(lasting=True))
    pipe.vae.decoder.conv_in.register_buffer("count", torch.zeros(()))

    def add(module: Any, *_: Any) -> None:
        module.count += 1

    handle = pipe.vae.decoder.conv_in.register_forward_hook(add)
    for calls in (1, 2, 3):
        run(pipe, CLS)
        assert pipe.vae.decoder.conv_in.count.item() == calls
    handle.remove()
    session.remove()
