"""The next component comes while one runs: all of it or a part, in any budget, and nothing is lost by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, judged, plan_for, schedule_for

from planner.schedule.model import Schedule
from planner.virtual.audit import snapshot
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

CLASSES = ("FluxPipeline", "WanPipeline", "StableDiffusion3Pipeline", "StableDiffusionXLControlNetPipeline")


def prefetched(schedule: Schedule) -> list[tuple[str, int]]:
    return [(step.component, step.bytes or 0) for step in schedule.steps if step.do == "prefetch"]


def budgets(pipe: Any) -> list[int]:
    """From where just the largest component fits with its reserve, to where everything does."""
    sizes = [size or 0 for size in schedule_for(plan_for(pipe), pipe).course.sizes.values()]
    low, high = int(max(sizes) / 0.84), int(sum(sizes) / 0.8)
    return [low + (high - low) * n // 6 for n in range(7)]


@pytest.mark.parametrize(
    "cls", [*CLASSES[:1], *(pytest.param(c, marks=pytest.mark.wide) for c in CLASSES[1:])]
)
def test_what_comes_early_is_what_was_planned_and_the_picture_the_same(cls: str) -> None:
    SimDevice()
    expected = run(build(cls).to("sim:0"), cls)
    shares = set()
    for budget in budgets(build(cls)):
        pipe = build(cls)
        truth = snapshot(pipe)
        session, device = attached(plan_for(pipe), pipe, budget)
        for name, early in prefetched(session.schedule):
            shares.add(early / session.schedule.course.size(name))
        for _ in range(2):
            said = judged(session, device, pipe, cls, truth)
            assert same(said.outputs, expected)
            assert [str(d) for d in said.say] == []
        session.remove()
        assert device.ledger.live == 0
    assert 1.0 in shares
    assert any(share < 1 for share in shares)


def roomy(pipe: Any) -> int:
    """Some of the transformer comes early, and not all."""
    for budget in budgets(pipe):
        schedule = schedule_for(plan_for(pipe), pipe, budget)
        size = schedule.course.size("transformer")
        if any(name == "transformer" and early < size for name, early in prefetched(schedule)):
            return budget
    raise AssertionError("no budget brings a part of it early")


class Stop(Exception):
    """Raised on purpose."""


def test_what_came_early_leaves_when_the_call_ends_before_it_runs() -> None:
    pipe = build("FluxPipeline")
    session, device = attached(plan_for(pipe), pipe, roomy(pipe))

    def stop(*_: Any) -> None:
        assert "transformer" in session.resident()
        raise Stop

    handle = pipe.text_encoder_2.register_forward_hook(stop)
    with pytest.raises(Stop):
        run(pipe, "FluxPipeline")
    handle.remove()
    assert session.resident() == ()
    assert device.ledger.live == 0
    assert same(run(pipe, "FluxPipeline"), run(build("FluxPipeline").to("sim:0"), "FluxPipeline"))
    assert device.faults == ()


@pytest.mark.parametrize("refused", ["the early part", "the rest"])
def test_no_room_after_all(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card with less than was planned: who comes early comes later, or again when others have left."""
    install()
    pipe = build("FluxPipeline")
    expected = run(build("FluxPipeline").to("sim:0"), "FluxPipeline")
    _, device = attached(plan_for(pipe), pipe, roomy(pipe))
    alloc, asked = device.alloc, []

    def sparing(nbytes: int, label: str, owned: list[Any] | None = None) -> Any:
        asked.append(label)
        if asked.count("transformer") == (1 if refused == "the early part" else 2) and label == "transformer":
            raise torch.OutOfMemoryError("no room")
        return alloc(nbytes, label, owned)

    monkeypatch.setattr(device, "alloc", sparing)
    assert same(run(pipe, "FluxPipeline"), expected)
    assert device.faults == ()
    assert device.ledger.live == 0
