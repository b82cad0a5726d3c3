"""Calls traced without a device: as right as a card that was measured, of the uses of a real call, and with
nothing left behind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build

import planner
from planner.cards.kernels import HOPPER
from planner.cli.main import run
from planner.graph.activations import Activations
from planner.predict.needs import activations_of
from planner.predict.profile import UseProfile
from planner.predict.stored import from_json, to_json
from planner.schedule.card import imagined
from planner.tracing.hollow import built
from planner.tracing.trace import trace
from tracing.measured import SDXL, SDXL_PEAKS

CLASSES = (
    "StableDiffusionXLPipeline",
    "FluxPipeline",
    "WanPipeline",
    "StableDiffusionControlNetPipeline",
    "QwenImagePipeline",
)
PLAN = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: 2GiB}
run: {prompt: a cat, height: 256, width: 256, num_inference_steps: 2}
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    return str(tmp_path / "x.plan.yaml")


def test_sdxl_takes_what_a_card_showed() -> None:
    pipe = built("StableDiffusionXLPipeline", SDXL, {})
    call = {"prompt": "a cat", "height": 1024, "width": 1024, "num_inference_steps": 2}
    found = trace(pipe.pipe, call, HOPPER, dtypes=pipe.dtypes)
    for use in found.uses:
        assert use.peak() == pytest.approx(SDXL_PEAKS[use.component], rel=0.005), use.component


@pytest.mark.parametrize("name", CLASSES)
def test_the_uses_are_those_of_a_real_call(name: str) -> None:
    pipe = build(name)
    given = arguments(name)
    traced = trace(pipe, given, HOPPER)
    counted: Counter[str] = Counter()
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            module.register_forward_pre_hook(lambda *_, part=part: counted.update([part]))
    pipe(**given)
    uses = [traced.uses[turn.use] for turn in traced.turns]
    assert Counter(use.component for use in uses if not use.entry) == counted


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build("FluxPipeline")
    before = (
        torch.nn.functional.scaled_dot_product_attention,
        torch.nn.Module.__call__,
        torch.cuda._lazy_init,
    )
    weights = {name: t.data_ptr() for name, t in pipe.transformer.named_parameters()}

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("here")

    monkeypatch.setattr(pipe.vae, "decode", fails)
    with pytest.raises(planner.PlanError) as raised:
        trace(pipe, arguments("FluxPipeline"), HOPPER)
    assert [found.code.id for found in raised.value.diagnostics] == ["P932"]
    after = (
        torch.nn.functional.scaled_dot_product_attention,
        torch.nn.Module.__call__,
        torch.cuda._lazy_init,
    )
    assert before == after
    assert weights == {name: t.data_ptr() for name, t in pipe.transformer.named_parameters()}


def test_a_profile_is_the_same_after_it_was_stored() -> None:
    found = trace(build("FluxPipeline"), arguments("FluxPipeline"), HOPPER)
    text = to_json(found)
    assert from_json(text).uses == found.uses
    assert to_json(from_json(text)) == text


def test_scratch_is_not_needed() -> None:
    use = UseProfile(component="vae", events=(1024, 4096, -1, 512), scratch=frozenset({1}))
    assert (use.peak(), use.peak(scratch=False)) == (5120, 1536)


def test_activations_that_do_not_fit_are_told(plan: str) -> None:
    known = planner.activations(plan)
    assert {*known} == {"text_encoder", "text_encoder_2", "unet", "vae"}
    small = ["budget.vram=780MiB"]
    assert planner.validate(plan, overrides=small, card=imagined(24 << 30)).ok
    found = planner.validate(plan, overrides=small, card=imagined(24 << 30), activations=known)
    assert [(error.code.id, "vae.decode" in error.message) for error in found.errors] == [("P607", True)]
    least = str(found.errors[0].hint).split("budget.vram=")[1].split()[0]
    fits = planner.validate(
        plan, overrides=[f"budget.vram={least}"], card=imagined(24 << 30), activations=known
    )
    assert not fits.errors


def test_predicted_activations_take_the_place_of_a_share(plan: str) -> None:
    """15% of 6.5 MiB would make the U-Net's 5.89 stream; it is known to take less."""
    room = 13 << 19
    guessed = planner.compile(plan, budget=room)
    known = planner.compile(
        plan, budget=room, activations=dict.fromkeys(guessed.graph.placements, Activations(1 << 19, 1 << 19))
    )
    assert [c.graph.placements["unet"].policy.value for c in (guessed, known)] == ["stream", "offload"]


def test_explain_shows_the_uses(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", plan, "--card", "24GiB", "--activations"]) == 0
    out = capsys.readouterr().out
    assert "activations" in out
    assert "decode" in out.splitlines()[-1]


def test_the_most_of_any_turn_counts() -> None:
    found = activations_of(trace(build("FluxPipeline"), arguments("FluxPipeline"), HOPPER))
    assert all(one.reserved >= one.needed > 0 for one in found.values())
