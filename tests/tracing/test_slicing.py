"""A VAE that takes the items of a batch one at a time: traced as a real call does it, and with less."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build

import planner
from planner.cards.kernels import HOPPER
from planner.cards.shipped import card_at
from planner.schedule.card import imagined, imagined_as
from planner.tracing.trace import trace
from planner.virtual.backend import install
from planner.virtual.memory import METER

SEVERAL = {
    "StableDiffusionXLImg2ImgPipeline": {"num_images_per_prompt": 4},
    "FluxPipeline": {"num_images_per_prompt": 4},
    "QwenImagePipeline": {"num_images_per_prompt": 4},
    "WanPipeline": {"num_videos_per_prompt": 4},
    "AnimateDiffPipeline": {},  # its frames are a batch
}
OFTEN = ("StableDiffusionXLImg2ImgPipeline", "WanPipeline", "AnimateDiffPipeline")
"""In every run of the tests: one that encodes too, and two of videos."""
ROUNDED = 5 << 10
"""Bytes: ten small tensors, each rounded up to 512."""
PLAN = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
run: {prompt: a cat, height: 256, width: 256, num_inference_steps: 2, num_images_per_prompt: 4}
"""


def made(name: str, *, sliced: bool) -> Any:
    pipe = build(name)
    if sliced:
        pipe.vae.enable_slicing()
    return pipe


def foretold(name: str, *, sliced: bool) -> dict[str, int]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = trace(made(name, sliced=sliced), arguments(name) | SEVERAL[name], HOPPER)
    return {use.entry: use.peak(scratch=False) for use in found.uses if use.component == "vae"}


def measured(name: str, *, sliced: bool) -> dict[str, int]:
    """The most that each use of the VAE took on the virtual accelerator."""
    install()
    pipe = made(name, sliced=sliced).to("sim:0")
    peaks: dict[str, int] = {}

    def watch(entry: str) -> None:
        method = getattr(pipe.vae, entry)

        def entered(*args: Any, **kwargs: Any) -> Any:
            gc.collect()
            before = METER.high = METER.allocated
            result = method(*args, **kwargs)
            peaks[entry] = max(peaks.get(entry, 0), METER.high - before)
            return result

        pipe.vae.__dict__[entry] = entered

    watch("encode")
    watch("decode")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        pipe(**(arguments(name) | SEVERAL[name]))
    return peaks


@pytest.mark.parametrize(
    "name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.wide) for n in SEVERAL]
)
def test_what_is_traced_is_what_a_call_takes(name: str) -> None:
    for sliced in (False, True):
        said, real = foretold(name, sliced=sliced), measured(name, sliced=sliced)
        assert said.keys() == real.keys()
        assert all(0 <= said[entry] - real[entry] <= ROUNDED for entry in real)
    assert said["decode"] * 4 < foretold(name, sliced=False)["decode"] * 3


def test_what_does_not_fit_is_told_what_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    (tmp_path / "x.plan.yaml").write_text(PLAN)

    def hints(*more: str) -> list[str]:
        small = ("budget.vram=850MiB", *more)
        known = planner.activations(planner.load(tmp_path / "x.plan.yaml", overrides=small))
        found = planner.validate(
            tmp_path / "x.plan.yaml", overrides=small, card=imagined(24 << 30), activations=known
        )
        return [str(one.hint) for one in found.errors if one.code.id == "P607" and "vae" in one.message]

    slicing = "components.vae.slicing: on takes less and may round otherwise"
    assert [slicing in hint for hint in hints()] == [True]
    assert slicing not in "".join(hints("components.vae.slicing=off"))
    assert [slicing in hint for hint in hints("run.num_images_per_prompt=1", "budget.vram=780MiB")] == [False]


def test_a_forecast_takes_less_for_several_and_the_same_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    card = imagined_as(card_at("h200"))

    def bytes_of(*more: str) -> tuple[int, int, int]:
        """The use's, the call's, and what is kept free for it."""
        plan = planner.load(tmp_path / "x.plan.yaml", overrides=more)
        assert card.data is not None
        call = planner.profile(plan, kernels=card.data.kernels)
        forecast = planner.compile(plan, card=card, call=call).forecast
        assert forecast is not None
        use = next(use for use in call.uses if use.component == "vae")
        return use.peak(), forecast.peak, planner.activations(plan)["vae"].needed

    on, one = "components.vae.slicing=on", "run.num_images_per_prompt=1"
    sliced, whole = bytes_of(on), bytes_of()
    assert sliced[0] < whole[0] / 3
    assert sliced[1] < whole[1]
    assert sliced[2] < whole[2]
    assert bytes_of(on, one) == bytes_of(one)
    assert bytes_of("components.vae.slicing=off") == whole
