"""The budget binds weights and activations together: on a device that holds the allocator to it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from covering import covering
from pipelines import wide
from pipelines.all import CASES, build, run, same
from pipelines.plans import attached, plan_for, schedule_for

from planner.schedule.estimate import SLACK
from planner.virtual.audit import audit
from planner.virtual.device import SimDevice
from planner.virtual.memory import METER

pytestmark = pytest.mark.usefixtures("alone_on_the_card")

CLASSES = ("FluxPipeline", "StableDiffusionXLPipeline", "WanPipeline")


def whole(cls: str, **more: Any) -> tuple[Any, int, int]:
    """The picture, the weights' bytes and the most that lay beside them, with everything on the device."""
    pipe = build(cls)
    SimDevice()
    pipe.to("sim:0")
    weights = METER.allocated
    METER.high = METER.beside
    picture = run(pipe, cls, **more)
    activations = METER.high - weights
    del pipe
    gc.collect()
    METER.restart()  # some stays: diffusers' caches of positions
    return picture, weights, activations


def stays_within(name: str, idle: str, room: Callable[[Any, int], int], *, lasting: bool = False) -> None:
    """Three calls, each with the picture of the pipeline whole on the device. ``room(pipe, weights)``: bytes
    of the budget for weights."""
    expected, weights, activations = whole(name)
    pipe = build(name)
    budget = room(pipe, weights) + activations + activations // 4
    device = SimDevice(capped=True, lasting=lasting)
    session, _ = attached(plan_for(pipe, f"idle: {idle}"), pipe, budget, device)
    METER.limit = budget
    assert session.applied.state.residency.activations.capped
    for _ in range(3):
        with audit(pipe, device) as seen:
            assert same(run(pipe, name), expected)
        assert METER.peak <= budget
        assert seen.misses == ()
    assert device.faults == ()
    session.remove()
    assert METER.limit is None
    assert device.ledger.live == 0


@pytest.mark.parametrize(("cls", "share", "idle"), covering(CLASSES, [0.3, 0.6, 0.9], ["keep", "release"]))
def test_no_call_passes_the_budget(cls: str, share: float, idle: str) -> None:
    stays_within(cls, idle, lambda _, weights: int(share * weights))


@pytest.mark.wide
@pytest.mark.parametrize("idle", ["release", "keep"])
@pytest.mark.parametrize("name", [*CASES, *wide.WIDE])
def test_no_call_of_any_class_passes_it(name: str, idle: str) -> None:
    """On a device that gives pieces back at their addresses, as CUDA does."""

    def room(pipe: Any, weights: int) -> int:
        sizes = schedule_for(plan_for(pipe), pipe).course.sizes.values()
        return int(max(0.6 * weights, 1.2 * max(size or 0 for size in sizes)))

    stays_within(name, idle, room, lasting=True)


def test_what_a_call_learned_lets_more_stay_in_the_next() -> None:
    cls = "FluxPipeline"
    _, weights, activations = whole(cls)
    pipe = build(cls)
    plan = plan_for(pipe)
    session, _ = attached(plan, pipe, int(weights + activations * 0.5), SimDevice(capped=True))
    moved = []
    for _ in range(2):
        run(pipe, cls)
        assert session.applied.last is not None
        moved.append(session.applied.last.moved)
    assert moved[1] <= moved[0]
    session.remove()


@pytest.mark.parametrize(("cls", "share"), covering(CLASSES, [0.5, 0.7, 0.9]))
def test_what_is_kept_moves_less_than_what_is_released(cls: str, share: float) -> None:
    """And in its steady state a call moves what the last one did."""
    _, weights, activations = whole(cls)
    moved: dict[str, list[int]] = {"release": [], "keep": []}
    for idle, calls in moved.items():
        pipe = build(cls)
        budget = int(share * weights) + activations + activations // 4
        session, _ = attached(plan_for(pipe, f"idle: {idle}"), pipe, budget, SimDevice(capped=True))
        for _ in range(6):
            run(pipe, cls)
            assert session.applied.last is not None
            calls.append(session.applied.last.moved)
        session.remove()
        del pipe
        gc.collect()
    assert moved["keep"][4] == moved["keep"][5] <= moved["release"][5]


def test_what_left_goes_to_the_driver_as_far_as_a_known_use_needs_it_and_then_all() -> None:
    class Asked(SimDevice):
        asked: ClassVar[list[int | None]] = []

        def release_freed(self, beside: int | None = None) -> bool:
            self.asked.append(beside)
            return super().release_freed(beside)

    cls = "FluxPipeline"
    pipe = build(cls)
    session, device = attached(plan_for(pipe), pipe, 1 << 30, Asked(capped=True))
    partly = []
    for more in ({}, {}, {"height": 128, "width": 128}):
        Asked.asked.clear()
        run(pipe, cls, **more)
        partly.append(sum(beside is not None for beside in Asked.asked))
        assert Asked.asked[-1] is None
    uses = (
        {event.component for event in session.applied.last.events if event.do == "use"}
        if session.applied.last
        else set()
    )
    assert partly[:2] == [0, len(uses)]
    assert 0 < partly[2] < len(uses)  # prompts are as long as before
    assert len(Asked.asked) > len(uses) + 1
    assert device.faults == ()
    session.remove()


def test_a_larger_picture_than_the_last_is_tried_again_with_less_beside_it() -> None:
    cls = "FluxPipeline"
    more = {"height": 128, "width": 128}
    _, weights, _ = whole(cls)
    expected, _, activations = whole(cls, **more)
    pipe = build(cls)
    session, device = attached(plan_for(pipe), pipe, activations + weights // 2, SimDevice(capped=True))
    run(pipe, cls)
    assert same(run(pipe, cls, **more), expected)
    assert session.applied.last is not None
    assert any("ran out of memory" in said for said in session.applied.last.departures)
    assert device.faults == ()
    session.remove()


def test_a_kernel_that_did_with_less_memory_is_told_of() -> None:
    cls = "FluxPipeline"
    _, weights, activations = whole(cls)
    pipe = build(cls)
    session, _ = attached(plan_for(pipe), pipe, 2 * weights + 2 * activations, SimDevice(capped=True))

    def greedy(*_: Any) -> None:
        with contextlib.suppress(torch.OutOfMemoryError):
            METER.take(METER.total)

    pipe.vae.decoder.register_forward_hook(greedy)
    run(pipe, cls)
    assert session.applied.last is not None
    assert session.applied.last.departures == ["vae met the budget: a kernel may have been changed"]
    session.remove()


def test_what_is_kept_gives_way_in_part_and_comes_back() -> None:
    """``idle: keep``: who needs most beside the weights finds it, and the others do not stream for that."""
    cls = "WanPipeline"
    expected, weights, _ = whole(cls)
    session, _ = attached(plan_for(pipe := build(cls), "idle: keep"), pipe, 1 << 30, SimDevice(capped=True))
    run(pipe, cls)
    most, least = (
        session.applied.state.residency.activations.need(session.applied.components[name]) or 0
        for name in ("vae", "transformer")
    )
    budget = weights + most - (most - least) // 2 - (1 << 30) // SLACK
    session.remove()
    pipe = build(cls)
    session, device = attached(plan_for(pipe, "idle: keep"), pipe, budget, SimDevice(capped=True))
    moved = []
    for _ in range(6):
        assert same(run(pipe, cls), expected)
        assert session.applied.last is not None
        moved.append(session.applied.last.moved)
        assert session.applied.last.departures == []
    assert 0 < moved[-1] == moved[-2] < weights
    assert device.faults == ()
    session.remove()
    assert device.ledger.live == 0
