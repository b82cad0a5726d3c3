"""A call with another number of steps is the call that would have been traced."""

from __future__ import annotations

import pytest
from pipelines.all import arguments, build

from planner.cards.kernels import HOPPER
from planner.models.model import models, profile
from planner.models.steps import with_steps
from planner.predict.profile import CallProfile, Turn, UseProfile
from planner.tracing.trace import trace


@pytest.mark.parametrize(
    ("name", "traced", "asked"),
    [("StableDiffusionXLPipeline", 5, 9), ("FluxPipeline", 9, 5), ("WanPipeline", 9, 5)],
)
def test_as_traced(name: str, traced: int, asked: int) -> None:
    """``held`` as well: what the pipeline keeps grows in its first steps and not after."""

    def call(steps: int) -> CallProfile:
        return trace(build(name), {**arguments(name), "num_inference_steps": steps}, HOPPER)

    made, expected = with_steps(call(traced), asked), call(asked)
    assert made is not None
    uses, wanted = made.uses, expected.uses
    said = [(uses[t.use].component, uses[t.use].entry, uses[t.use].inputs, t.held) for t in made.turns]
    assert said == [
        (wanted[t.use].component, wanted[t.use].entry, wanted[t.use].inputs, t.held) for t in expected.turns
    ]


@pytest.mark.parametrize("steps", [1, 4, 100])
def test_every_model_takes_any_number(steps: int) -> None:
    for model in {model.name: model for model in models().values()}.values():
        call = profile(model, model.calls[0])
        made = with_steps(call, steps)
        assert made is not None, model.name
        assert made.steps == steps
        extra = len(call.turns) - len(made.turns)
        each = max(1, _runs(call) // call.steps)
        assert extra == each * (call.steps - steps), model.name


def test_two_denoisers_keep_their_shares() -> None:
    model = models()["Wan-AI/Wan2.2-T2V-A14B-Diffusers"]
    call = profile(model, model.calls[0])
    made = with_steps(call, call.steps // 2)
    assert made is not None
    for name in ("transformer", "transformer_2"):
        before, after = (sum(c.uses[t.use].component == name for t in c.turns) for c in (call, made))
        assert after == pytest.approx(before / 2, abs=2)


def test_no_steps_none_made() -> None:
    only = CallProfile(
        pipeline="X",
        arguments={},
        kernels="hopper",
        versions={},
        steps=4,
        uses=(UseProfile(component="prior"),),
        turns=(Turn(0, 0),) * 4,
    )
    assert with_steps(only, 8) is None


def _runs(call: CallProfile) -> int:
    return sum(call.uses[t.use].component in ("unet", "transformer", "transformer_2") for t in call.turns)
