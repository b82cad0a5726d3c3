"""Which shipped call a plan's is taken for, and that it is said where it is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import planner
from planner.cards.kernels import HOPPER
from planner.cards.shipped import shipped_card
from planner.models.match import FAR, Shipped, shipped
from planner.models.model import models, profile
from planner.plan.model import Plan
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.model import device_bytes

FLUX = "black-forest-labs/FLUX.1-dev"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
QWEN = "Qwen/Qwen-Image"
WAN = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"


def plan_of(source: str, run: str = "", rest: str = "", dtype: str = "", folder: str = "") -> Plan:
    model = models()[source]
    text = (
        f"version: 1\npipeline: {{class: {model.cls}, source: {source}, dtype: {dtype or model.dtype}}}\n"
        f"run: {{prompt: a cat, {run}}}\n{rest}"
    )
    return planner.load(SourceText(name=f"{folder}x.plan.yaml", text=text))


def matched(plan: Plan, card: str = "h200") -> Shipped:
    target = catalogue.find(plan.pipeline.cls)
    found = shipped(plan, None if target is None else target.call, shipped_card(card).kernels)
    assert found is not None
    return found


@pytest.mark.parametrize("source", sorted(models()))
@pytest.mark.parametrize("card", ["h200", "rtx-4070"])
def test_every_call_that_ships_is_found_as_itself(source: str, card: str) -> None:
    model = models()[source]
    wanted = [c for c in model.calls if c.kernels.attention == shipped_card(card).kernels.attention]
    assert wanted
    for call in wanted:
        run = ", ".join(f"{key}: {value!r}" for key, value in call.arguments.items())
        rest = "".join(f"components: {{{name}: {{tiling: on}}}}\n" for name in call.tiling)
        found = matched(plan_of(source, run, rest), card)
        assert (found.exact, found.why) == (True, "")
        assert found.call is not None
        assert found.call.uses == profile(model, call).uses
        assert any(model.made_with in note for note in found.call.notes)


@pytest.mark.parametrize(
    ("source", "run"),
    [
        (FLUX, ""),
        (FLUX, "guidance_scale: 7.5, seed: 3, height: 1024"),
        (FLUX, "num_inference_steps: 4"),
        (SDXL, "guidance_scale: 9.0, negative_prompt: ugly"),
        (SDXL, "guidance_scale: 1.0"),
        (QWEN, "negative_prompt: ' '"),
        (QWEN, "true_cfg_scale: 1.0, negative_prompt: ' '"),
        (WAN, "num_inference_steps: 40, guidance_scale: 4.0"),
    ],
)
def test_what_changes_no_shape_is_free(source: str, run: str) -> None:
    assert matched(plan_of(source, run)).exact


@pytest.mark.parametrize(
    ("source", "run", "why"),
    [
        (FLUX, "height: 1152, width: 896", "of 1024x1024, which was traced, not of 1152x896"),
        (FLUX, "width: 768", "of 1024x1024, which was traced, not of 1024x768"),
        (WAN, "num_frames: 49", "of 480x832 and 33 frames, which was traced, not of 480x832 and 49 frames"),
    ],
)
def test_another_size_is_that_of_the_nearest_and_says_so(source: str, run: str, why: str) -> None:
    found = matched(plan_of(source, run))
    assert (found.exact, found.why) == (False, why)
    assert found.call is not None
    assert why in found.call.notes


@pytest.mark.parametrize(
    ("source", "run", "rest", "dtype", "why"),
    [
        (FLUX, "height: 2048, width: 2048", "", "", "far"),
        (FLUX, "num_images_per_prompt: 2", "", "", "num_images_per_prompt"),
        (FLUX, "true_cfg_scale: 4.0, negative_prompt: ugly", "", "", "guidance"),
        (FLUX, "output_type: latent", "", "", "latents"),
        (FLUX, "", "", "float16", "bfloat16"),
        (FLUX, "", "components: {vae: {tiling: on}, transformer: {policy: offload}}\n", "", ""),
        ("hunyuanvideo-community/HunyuanVideo", "", "", "", "tiling"),
        (WAN, "", "components: {vae: {tiling: on}}\n", "", "tiled"),
        (WAN, "", "components: {vae: {slicing: on}}\n", "", ""),
        (FLUX, "num_images_per_prompt: 2", "components: {vae: {slicing: on}}\n", "", "num_images_per_prompt"),
    ],
)
def test_what_was_not_traced_is_not_taken_for_what_was(
    source: str, run: str, rest: str, dtype: str, why: str
) -> None:
    found = matched(plan_of(source, run, rest, dtype))
    assert (found.call is None) == bool(why)
    assert why in found.why


def test_several_prompts_are_not_one() -> None:
    head = f"version: 1\npipeline: {{class: FluxPipeline, source: {FLUX}, dtype: bfloat16}}\n"
    found = matched(planner.load(SourceText(name="x.plan.yaml", text=head + "run: {prompt: [a, b]}\n")))
    assert found.call is None
    assert "run.prompt" in found.why


def test_kernels_of_no_card_that_was_traced() -> None:
    assert "mps" in matched(plan_of(FLUX), "m3-max").why
    assert matched(plan_of(SDXL), "t4").exact
    other = shipped(plan_of(FLUX), None, replace(HOPPER, name="other", nchw=0.5))
    assert other is not None
    assert other.call is None


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / FLUX).mkdir(parents=True)
    assert shipped(plan_of(FLUX, folder=f"{tmp_path}/"), None) is None


def test_how_far_is_far() -> None:
    side = int(1024 * FAR**0.5)
    assert matched(plan_of(FLUX, f"height: {side - 16}, width: {side - 16}")).call is not None
    assert matched(plan_of(FLUX, f"height: {side + 16}, width: {side + 16}")).call is None


def test_sizes_are_those_of_the_dtype() -> None:
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        compiled = planner.compile(plan_of(FLUX, dtype=dtype, rest="budget: {vram: 60GiB}\n"))
        assert compiled.target.origin == "shipped"
        sizes[dtype] = {
            name: info.bytes or 0 for name, info in compiled.target.components.items() if info.module
        }
    half = sizes["bfloat16"]
    assert half.pop("image_encoder") == sizes["float32"].pop("image_encoder") == 0
    for name, nbytes in half.items():
        assert sizes["float32"][name] == pytest.approx(2 * nbytes, rel=1e-3)
    assert half["transformer"] == pytest.approx(device_bytes([2 * 11_901_408_320]), rel=1e-5)


@pytest.mark.parametrize(
    ("cls", "means", "ships"),
    [
        ("DiffusionPipeline", "FluxPipeline", True),
        ("AutoPipelineForText2Image", "FluxPipeline", True),
        ("AutoPipelineForImage2Image", "FluxImg2ImgPipeline", False),
    ],
)
def test_a_class_that_stands_for_others(cls: str, means: str, ships: bool) -> None:
    text = (
        f"version: 1\npipeline: {{class: {cls}, source: {FLUX}, dtype: bfloat16}}\nrun: {{prompt: a cat}}\n"
    )
    found = planner.compile(SourceText(name="x.plan.yaml", text=text))
    assert found.target.cls == means
    assert found.target.components["transformer"].bytes
    assert (found.call is not None) == ships


@pytest.mark.parametrize("steps", ["''", "many", "0", "-3", "2.5", "[4]", "1000000000"])
def test_what_is_no_number_of_steps_is_like_no_call(steps: str) -> None:
    found = matched(plan_of(FLUX, run=f"num_inference_steps: {steps}"))
    assert found.call is None
    assert "no number of steps" in found.why


@pytest.mark.parametrize("cls", ["MyOwnPipeline", "' '"])
def test_a_class_of_ones_own_over_a_known_model_is_compiled(cls: str) -> None:
    text = f"version: 1\npipeline: {{class: {cls}, source: {QWEN}, dtype: bfloat16}}\n"
    text += "order: text_encoder -> transformer -> vae.decode\nbudget: {vram: 44GiB}\n"
    found = planner.validate(SourceText(name="x.plan.yaml", text=text))
    assert found.plan is not None
