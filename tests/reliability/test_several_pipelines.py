"""Pipelines that share components, each under a plan, on one device."""

from __future__ import annotations

import gc
import threading
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import covering
from diffusers import StableDiffusionImg2ImgPipeline
from pipelines.all import arguments, build, run, same
from pipelines.plans import plan_for

from planner import api
from planner.diagnostics.diagnostic import PlanError
from planner.session.session import Session
from planner.virtual.audit import audit
from planner.virtual.device import SimDevice
from reliability.world import MODES, SD, lora

I2I = "StableDiffusionImg2ImgPipeline"


class Pair:
    """Text to image, and image to image out of its components."""

    def __init__(self, first: tuple[str, ...], second: tuple[str, ...], budget: int | None = None) -> None:
        self.device = SimDevice()
        self.text = build(SD)
        self.budget = (f"budget: {{vram: {budget}B}}",) if budget else ()
        self.one = self.apply(self.text, first)
        own = build(I2I).scheduler  # image to image leaves its tables on the device
        self.image = StableDiffusionImg2ImgPipeline.from_pipe(self.text, scheduler=own)
        self.image.set_progress_bar_config(disable=True)
        self.two = self.apply(self.image, second)

    def apply(self, pipe: Any, lines: tuple[str, ...]) -> Session:
        return api.attach(plan_for(pipe, *lines, *self.budget), pipe, self.device)[0]

    def call(self, name: str) -> None:
        pipe = self.text if name == SD else self.image
        with audit(pipe, self.device) as seen:
            assert same(run(pipe, name), whole(name))
        assert seen.misses == ()
        live = self.device.ledger.live
        there = {
            id(c): s.applied.nbytes(n)
            for s in (self.one, self.two)
            for n in s.resident()
            if (c := s.applied.components[n])
        }
        held = list(there.values())
        assert live == sum(held), "what lies on the device is not what the sessions say"
        modules = [s.applied.components[n].module for s in (self.one, self.two) for n in s.resident()]
        assert len({*map(id, modules)}) == len(there), "a component counts twice"

    def end(self) -> None:
        self.one.remove()
        self.two.remove()
        assert self.device.ledger.live == 0
        assert self.device.faults == ()
        for name, part in self.text.components.items():
            if isinstance(part, torch.nn.Module):
                assert not {"_apply", "_hf_hook", "state_dict"} & part.__dict__.keys(), name
                assert not part._forward_pre_hooks
                assert {p.device.type for p in part.parameters()} == {"cpu"}
        assert same(run(self.text, SD), run(build(SD), SD))


@cache
def whole(name: str) -> Any:
    """What it gives alone."""
    return run(build(name).to("sim:0"), name)


@pytest.mark.parametrize(
    ("first", "second"), covering([*MODES], ["offload", "offload, kept", "stream, kept"], start=1)
)
def test_pipelines_in_turn_give_what_each_gives_alone(first: str, second: str) -> None:
    pair = Pair(MODES[first], MODES[second])
    for name in (SD, I2I, SD, SD, I2I, I2I):
        pair.call(name)
    pair.end()


def test_what_both_have_crosses_once() -> None:
    pair = Pair(("idle: keep",), ("idle: keep",))
    pair.call(SD)
    moved = pair.device.ledger.moved
    pair.call(I2I)
    pair.call(SD)
    assert pair.device.ledger.moved == moved
    pair.end()


@pytest.mark.parametrize(
    ("order", "idle"), covering([("one", "two"), ("two", "one")], ["release", "keep"], start=1)
)
def test_the_plan_of_one_goes_and_the_other_holds(order: tuple[str, str], idle: str) -> None:
    pair = Pair((f"idle: {idle}",), (f"idle: {idle}",))
    pair.call(SD)
    pair.call(I2I)
    getattr(pair, order[0]).remove()
    left, name = (pair.image, I2I) if order[0] == "one" else (pair.text, SD)
    assert same(run(left, name), whole(name))
    getattr(pair, order[1]).remove()
    pair.end()


@pytest.mark.parametrize("idle", [pytest.param("release", marks=pytest.mark.wide), "keep"])
def test_a_lora_on_one_is_on_both(idle: str) -> None:
    pair = Pair((f"idle: {idle}",), (f"idle: {idle}",))
    expected = {}
    for name in (SD, I2I):
        plain = build(name)
        plain.load_lora_weights(lora(1), adapter_name="one")
        expected[name] = run(plain.to("sim:0"), name)
    pair.call(SD)
    pair.call(I2I)
    pair.text.load_lora_weights(lora(1), adapter_name="one")
    for name in (SD, I2I, SD):
        assert same(run(pair.text if name == SD else pair.image, name), expected[name])
    pair.image.unload_lora_weights()
    pair.call(SD)
    pair.call(I2I)
    pair.end()


def test_a_call_inside_a_call() -> None:
    """Each step's preview is made into another picture by the second pipeline."""
    pair = Pair(("idle: keep",), ("idle: keep",))
    inner = []

    def again(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        state = torch.get_rng_state()
        inner.append(run(pair.image, I2I))
        torch.set_rng_state(state)
        return tensors

    assert same(run(pair.text, SD, callback_on_step_end=again), whole(SD))
    assert all(same(made, whole(I2I)) for made in inner)
    assert inner
    pair.end()


def test_threads_with_a_pipeline_each() -> None:
    pair = Pair(("idle: keep",), ())
    made: dict[str, Any] = {}

    def work(pipe: Any, name: str) -> None:
        with torch.no_grad():
            made[name] = (pipe(**arguments(name))[0].cpu(),)

    threads = [threading.Thread(target=work, args=a) for a in ((pair.text, SD), (pair.image, I2I))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(made[name], whole(name)) for name in (SD, I2I))
    pair.end()


def test_an_idle_pipeline_makes_room() -> None:
    """Two pipelines with nothing in common, and a budget for one."""
    device = SimDevice()
    one, two = build(SD), build(SD)
    parts = [part for part in one.components.values() if isinstance(part, torch.nn.Module)]
    need = sum(t.numel() * t.element_size() for part in parts for t in part.parameters())
    lines = ("idle: keep", f"budget: {{vram: {int(1.3 * need)}B}}")
    sessions = [api.attach(plan_for(pipe, *lines), pipe, device)[0] for pipe in (one, two)]
    for pipe in (one, two, one):
        start = len(device.ledger)
        assert same(run(pipe, SD), whole(SD))
        assert device.ledger.peak_since(start) <= (sessions[0].budget or 0)
    for session in sessions:
        session.remove()
    assert device.ledger.live == 0


def test_the_budget_is_the_first_plans(tmp_path: Path) -> None:
    device, one, two = SimDevice(), build(SD), build(SD)
    first, _ = api.attach(plan_for(one, "budget: {vram: 1GiB}"), one, device)
    assert first.budget == 1 << 30
    with pytest.raises(PlanError, match="P725"):
        api.attach(plan_for(two, "budget: {vram: 2GiB}"), two, device)
    for lines in ((), ("budget: {vram: 1GiB}",)):
        session, _ = api.attach(plan_for(two, *lines), two, device)
        assert session.budget == first.budget
        session.remove()
    overruled, _ = api.attach(plan_for(two, "budget: {vram: 2GiB}"), two, device, budget=first.budget)
    assert overruled.budget == first.budget
    overruled.remove()
    del one, first
    gc.collect()
    alone, _ = api.attach(plan_for(two, "budget: {vram: 2GiB}"), two, device)
    assert alone.budget == 2 << 30
    alone.remove()
