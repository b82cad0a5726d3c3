"""Weights that are split in other blocks than were traced: each block computes, and nothing is lost."""

from __future__ import annotations

import pytest

import planner
from planner.cards.shipped import card_at
from planner.predict.pace import spread
from planner.predict.streamed import FIXED, Work
from planner.schedule.card import imagined_as
from planner.source.text import SourceText

PLAN = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: 2GiB}
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64}
"""
BACKENDS = ("torchao, type: int8_weight_only", "bitsandbytes, type: nf4", "layerwise_cast")


@pytest.mark.parametrize(("traced", "there"), [(5, 5), (5, 3), (3, 5), (7, 1), (1, 7), (4, 0), (50, 43)])
def test_all_is_computed_in_all_blocks(traced: int, there: int) -> None:
    work = (Work(FIXED, 1.0, 2.0), *(Work(n, 0.5 * n, n) for n in range(1, traced + 1)), Work(FIXED, 1.0, 1))
    made = spread(work, traced, there)
    assert {one.block for one in made} == {*range(there + 1)}
    assert sum(one.seconds for one in made) == pytest.approx(sum(one.seconds for one in work))
    assert sum(one.operations for one in made) == pytest.approx(sum(one.operations for one in work))
    assert [one.block for one in made[1:-1]] == sorted(one.block for one in made[1:-1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["text_encoder_2", "unet"])
def test_quantized_weights_that_stream_have_a_forecast(name: str, backend: str) -> None:
    card = imagined_as(card_at("rtx-4090"))
    said = f"quantization=[{{component: {name}, backend: {backend}}}]"
    more = (said, f"components.{name}={{policy: stream, resident: 10KiB}}")
    plan = planner.load(SourceText(name="x.plan.yaml", text=PLAN), overrides=more)
    assert card.data is not None
    call = planner.profile(plan, kernels=card.data.kernels)
    compiled = planner.compile(plan, card=card, call=call)
    forecast = compiled.forecast
    assert forecast is not None
    times = next(use.times for use in forecast.uses if use.component == name)
    split = compiled.schedule.placements[name].split
    assert split is not None
    size = compiled.target.components[name].bytes
    assert size is not None
    assert forecast.moved >= (size - split.resident) * times
