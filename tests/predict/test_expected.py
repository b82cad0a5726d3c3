"""What a session is told before the first call: by component, and recognised by the use's signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build

import planner
from planner.cards.kernels import HOPPER
from planner.cards.shipped import card_at
from planner.predict.needs import activations_of, expectations
from planner.schedule.card import imagined_as
from planner.schedule.estimate import SLACK, ActivationEstimate
from planner.source.text import SourceText
from planner.tracing.trace import trace


def plan_text(cls: str, *lines: str) -> SourceText:
    text = "\n".join(("version: 1", f"pipeline: {{class: {cls}}}", *lines)) + "\n"
    return SourceText(name="x.plan.yaml", text=text)


@pytest.mark.parametrize("name", ["FluxPipeline", "StableDiffusionXLPipeline", "WanPipeline"])
def test_a_first_call_is_known_by_its_signatures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        call = trace(pipe, arguments(name), HOPPER)
    seen: list[tuple[str, bool]] = []
    asked = ActivationEstimate.reserve

    def reserve(self: Any, component: Any, signature: Any) -> int | None:
        found = asked(self, component, signature)
        seen.append((component.label, found is not None))
        return found

    monkeypatch.setattr(ActivationEstimate, "reserve", reserve)
    with planner.apply(plan_text(name), pipe, device="sim:0", call=call) as session:
        known = session.applied.state.residency.activations
        for part, expected in expectations(call).items():
            component = session.applied.components[part]
            assert (known.need(component) or 0) >= expected.nbytes == activations_of(call)[part].reserved
        torch.manual_seed(7)
        with torch.no_grad():
            pipe(**arguments(name))
    assert {label for label, _ in seen} == {*expectations(call)}
    assert all(found for _, found in seen)


class Memory:
    """A device of which all figures are set."""

    own, abandoned, held, context = 0, 0, 7 << 20, 0
    capped: int | None = None

    def allocator_reserved(self) -> int:
        return self.held

    def beyond(self) -> int:
        return self.context

    def oom_count(self) -> int:
        return 0

    def retry_count(self) -> int:
        return 0

    def cap(self, nbytes: int | None) -> bool:
        self.capped = nbytes
        return nbytes is not None


def test_the_budget_shrinks_by_what_the_context_outgrows() -> None:
    memory = Memory()
    memory.context = 500 << 20
    known = ActivationEstimate(memory, 4 << 30)
    known.watch(760 << 20)
    assert memory.capped == 4 << 30
    memory.context = 800 << 20
    known.begin()
    assert memory.capped == (4 << 30) - (40 << 20)
    assert known.room("unet", 3 << 30) == (3 << 30) - (40 << 20)
    memory.context = 790 << 20  # it is not given back and forth
    known.enter("unet", "", 0)
    assert memory.capped == (4 << 30) - (40 << 20)
    memory.context = 9 << 30  # another process came
    known.enter("vae", "", 0)
    assert memory.capped == (4 << 30) - (40 << 20)


def test_what_others_have_on_the_device_is_not_ours() -> None:
    memory = Memory()
    memory.context = 9 << 30
    known = ActivationEstimate(memory, 4 << 30)
    known.watch(760 << 20)
    known.begin()
    assert memory.capped == 4 << 30
    memory.context += 30 << 20
    known.begin()
    assert memory.capped == (4 << 30) - (30 << 20)


def test_what_is_seen_is_not_overwritten_nor_below_what_was_expected() -> None:
    memory = Memory()
    known = ActivationEstimate(memory, 1 << 30)
    known.expect("unet", 5 << 20, "a")
    assert known.reserve("unet", "a") is not None
    assert known.reserve("unet", "another") is None
    known.begin()
    known.observe("unet", "")
    known.end()
    known.expect("unet", 1 << 20, "b")
    slack = (1 << 30) // SLACK
    assert known.need("unet") == (7 << 20) + slack
    memory.held = 1 << 20
    known.begin()
    known.observe("unet", "")
    known.end()
    assert known.need("unet") == (5 << 20) + slack


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A pipeline's folder as it is before its weights were downloaded."""
    folder = tmp_path / "flux"
    build("FluxPipeline").save_pretrained(folder)
    for path in folder.rglob("*.safetensors*"):
        path.unlink()
    return folder


def test_a_folder_of_configs_is_enough(configs: Path) -> None:
    run = "run: {prompt: a fox, num_inference_steps: 2, height: 32, width: 32}"
    text = f"version: 1\npipeline: {{class: FluxPipeline, source: '{configs}'}}\n{run}\n"
    plan = planner.load(SourceText(name="x.plan.yaml", text=text))
    assert {e.code.id for e in planner.validate(plan).errors} == {"P353"}
    call = planner.profile(plan)
    card = imagined_as(card_at("h200"))
    assert planner.validate(plan, call=call, card=card).ok
    found = planner.compile(plan, call=call, card=card)
    whole = planner.compile(plan, build("FluxPipeline"), card=card)
    assert found.schedule.course.sizes == whole.schedule.course.sizes
    assert found.forecast is not None
    assert found.forecast.fits
    assert json.loads(found.to_json())["peak"] == found.schedule.peak


def test_more_memory_moves_no_more_and_takes_no_longer(configs: Path) -> None:
    run = "run: {prompt: a fox, num_inference_steps: 4, height: 32, width: 32}"
    text = f"version: 1\npipeline: {{class: FluxPipeline, source: '{configs}'}}\n{run}\n"
    plan = planner.load(SourceText(name="x.plan.yaml", text=text))
    call, card = planner.profile(plan), imagined_as(card_at("h200"))
    told = []
    for budget in ("864MiB", "872MiB", "900MiB", "2GiB"):
        one = planner.compile(plan, call=call, card=card, overrides=[f"budget.vram={budget}"])
        assert one.forecast is not None
        told.append(one.forecast)
        said = one.plan.budget.vram
        assert said is not None
        assert one.forecast.peak <= (said.bytes or 0)
        assert max(sample.driver for sample in one.forecast.samples) == one.forecast.peak
    assert [f.moved for f in told] == sorted((f.moved for f in told), reverse=True)
    assert [f.seconds for f in told] == sorted((f.seconds for f in told), reverse=True)
