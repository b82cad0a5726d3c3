"""A plan's ``run`` as call arguments: diffusers' names, images from files, one seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from planner.diagnostics.diagnostic import PlanError
from planner.loading.inputs import call_arguments, call_of


class Img2Img:
    """As a session leaves it: a subclass whose call takes anything."""

    def __call__(
        self,
        prompt: Any = None,
        image: Any = None,
        mask_image: Any = None,
        ip_adapter_image: Any = None,
        video: Any = None,
        num_inference_steps: int = 50,
        generator: Any = None,
        callback_on_step_end: Any = None,
    ) -> Any:
        """Not called."""


class UnderASession(Img2Img):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not called."""


def plan_with(make_plan: Any, run: str) -> Any:
    return make_plan(f"pipeline: X\nrun: {{{run}}}")


def refused(make_plan: Any, run: str, pipe: Any = None) -> list[tuple[str, str, str]]:
    with pytest.raises(PlanError) as caught:
        call_of(plan_with(make_plan, run), pipe or Img2Img())
    return [(d.code.id, str(d.span.column) if d.span else "", d.message) for d in caught.value.diagnostics]


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "red.png"
    path.parent.mkdir()
    Image.new("RGB", (6, 4), (255, 0, 0)).save(path)
    return path


def test_plain_values_go_as_they_are_and_the_seed_makes_a_generator(make_plan: Any) -> None:
    call = call_of(plan_with(make_plan, "prompt: a cat, num_inference_steps: 3, seed: 7"), Img2Img())
    assert call.seed == 7
    assert {k: v for k, v in call.arguments.items() if k != "generator"} == {
        "prompt": "a cat",
        "num_inference_steps": 3,
    }
    generator = call.arguments["generator"]
    assert (generator.device, generator.initial_seed()) == (torch.device("cpu"), 7)


def test_without_a_seed_it_is_0_and_a_pipeline_without_a_generator_gets_none(make_plan: Any) -> None:
    class Plain:
        def __call__(self, prompt: Any = None) -> Any:
            """Not called."""

    assert call_of(plan_with(make_plan, "prompt: x"), Img2Img()).seed == 0
    assert call_arguments(plan_with(make_plan, "prompt: x"), Plain()) == {"prompt": "x"}


def test_images_are_relative_to_the_plan(
    make_plan: Any, red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    Image.new("L", (2, 2), 9).save(tmp_path / "mask.png")
    run = "image: in/red.png, mask_image: mask.png, ip_adapter_image: [in/red.png, [in/red.png]]"
    made = call_arguments(plan_with(make_plan, run), Img2Img())
    assert (made["image"].size, made["image"].getpixel((0, 0))) == ((6, 4), (255, 0, 0))
    assert (made["mask_image"].mode, made["mask_image"].getpixel((1, 1))) == ("RGB", (9, 9, 9))
    assert made["ip_adapter_image"][1][0].size == (6, 4)


def test_an_image_taken_sideways_is_upright(make_plan: Any, tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert call_arguments(plan_with(make_plan, "image: turned.jpg"), Img2Img())["image"].size == (4, 6)


def test_a_video_from_a_folder_a_gif_a_list_and_an_mp4(make_plan: Any, tmp_path: Path) -> None:
    import imageio.v2 as imageio

    frames = [Image.new("RGB", (32, 32), (n * 80, 0, 0)) for n in range(3)]
    (tmp_path / "frames").mkdir()
    for n, frame in enumerate(frames):
        frame.save(tmp_path / "frames" / f"{n}.png")
    frames[0].save(tmp_path / "v.gif", save_all=True, append_images=frames[1:])
    imageio.mimwrite(tmp_path / "v.mp4", [np.asarray(f) for f in frames], fps=8)
    for video in ("frames", "v.gif", "[frames/0.png, frames/1.png, frames/2.png]", "v.mp4"):
        made = call_arguments(plan_with(make_plan, f"video: {video}"), Img2Img())["video"]
        assert [f.size for f in made] == [(32, 32)] * 3, video
        assert [abs(f.getpixel((5, 5))[0] - n * 80) < 9 for n, f in enumerate(made)] == [True] * 3, video


def test_an_unknown_argument_is_told_at_its_key_with_the_nearest(make_plan: Any) -> None:
    with pytest.raises(PlanError) as caught:
        call_of(plan_with(make_plan, "prompt: x, num_inference_step: 3"), UnderASession())
    (found,) = caught.value.diagnostics
    assert found.message == 'UnderASession takes no argument "num_inference_step"'
    assert found.hint == 'did you mean "num_inference_steps"?'
    assert found.span is not None
    assert (found.span.line, found.span.column) == (3, 18)
    assert found.code.exit_code == 1  # the plan is wrong, on every machine


def test_all_problems_at_once(make_plan: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    run = (
        "image: gone.png, mask_image: text.png, video: empty, ip_adapter_image: 3, seed: lucky, generator: 1"
    )
    assert [(code, said) for code, _, said in refused(make_plan, run)] == [
        ("P916", '"ip_adapter_image" takes a path, found 3'),
        ("P916", "\"seed\" is a whole number from 0 to 9223372036854775807, found 'lucky'"),
        ("P916", '"generator" cannot be written in a plan'),
        ("P917", 'cannot read "gone.png": no such file'),
        ("P917", 'cannot read "text.png": it is no image that Pillow knows'),
        ("P917", 'cannot read "empty": it is a folder without images'),
    ]


@pytest.mark.parametrize("seed", ["-1", "true", "1.5", "9223372036854775808"])
def test_seeds_that_are_none(seed: str, make_plan: Any) -> None:
    ((code, _, said),) = refused(make_plan, f"seed: {seed}")
    assert code == "P916"
    assert said.startswith('"seed" is a whole number')


def test_an_image_inside_a_list_is_told_at_its_place(make_plan: Any, red: Path) -> None:
    ((code, column, _),) = refused(make_plan, "image: [in/red.png, in/rde.png]")
    assert (code, column) == ("P917", "27")


def test_every_image_argument_of_the_installed_pipelines_is_known() -> None:
    """By its annotation: a list of our own would fall behind in silence."""
    import inspect

    import diffusers

    from planner.plan.run import IMAGES, VIDEOS

    tensors = {"ip_adapter_image_embeds", "masked_image_latents", "image_latents", "prompt"}
    unknown = set()
    for name in dir(diffusers):
        if name.endswith("Pipeline") and name.startswith(("Flux", "StableDiffusion", "Wan", "Qwen", "LTX")):
            call = inspect.signature(getattr(diffusers, name).__call__)
            unknown |= {
                p.name
                for p in call.parameters.values()
                if "Image" in str(p.annotation) and p.name not in IMAGES | VIDEOS | tensors
            }
    assert unknown == set()
