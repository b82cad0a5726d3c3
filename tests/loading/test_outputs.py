"""Outputs as files: names, formats, the same bytes for the same pixels, whole or not at all."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Result
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from planner.diagnostics.diagnostic import PlanError
from planner.loading.outputs import sample_rate_of, save, save_or_keep

PIXELS = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
SHOWN = np.round(PIXELS * 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")


@pytest.fixture
def plan(make_plan: Any) -> Any:
    return make_plan("pipeline: X\nrun: {seed: 5}")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_the_default_name_and_what_is_taken(plan: Any) -> None:
    result = Result(images=[Image.fromarray(SHOWN)])
    assert names(save(result, plan)) == ["x-5.png"]
    assert names(save(result, plan)) == ["x-5-2.png"]
    assert names(save(result, plan)) == ["x-5-3.png"]
    assert names(save(result, plan, seed=8)) == ["x-8.png"]
    assert sorted(names(list(Path().iterdir()))) == ["x-5-2.png", "x-5-3.png", "x-5.png", "x-8.png"]


def test_several_images_stay_together(plan: Any) -> None:
    result = Result(images=[Image.fromarray(SHOWN)] * 2)
    assert names(save(result, plan)) == ["x-5-0.png", "x-5-1.png"]
    Path("x-5-0.png").unlink()  # one that is left is enough to be taken
    assert names(save(result, plan)) == ["x-5-2-0.png", "x-5-2-1.png"]
    assert names(save(result, plan, "cat.png")) == ["cat-0.png", "cat-1.png"]


@pytest.mark.parametrize("kind", ["pil", "np", "pt", "tuple"])
def test_every_output_type_gives_the_same_bytes(kind: str, plan: Any) -> None:
    made: Any = {
        "pil": [Image.fromarray(SHOWN)],
        "np": PIXELS[None],
        "pt": torch.from_numpy(PIXELS).permute(2, 0, 1)[None],
        "tuple": PIXELS[None],
    }[kind]
    (path,) = save((made,) if kind == "tuple" else Result(images=made), plan)
    (same,) = save(Result(images=[Image.fromarray(SHOWN)]), plan)
    assert path.read_bytes() == same.read_bytes()
    assert np.array_equal(np.asarray(Image.open(path)), SHOWN)
    assert b"tIME" not in path.read_bytes()


def test_the_suffix_chooses_the_format(plan: Any) -> None:
    result = Result(images=[Image.fromarray(SHOWN)])
    for suffix, form in ((".jpg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".PNG", "PNG")):
        (path,) = save(result, plan, f"cat{suffix}")
        assert Image.open(path).format == form
    Path("folder").mkdir()
    assert save(result, plan, "folder") == [Path("folder/x-5.png")]


def test_a_file_that_is_there_is_replaced_only_by_force(plan: Any) -> None:
    Path("cat.png").write_bytes(b"old")
    with pytest.raises(PlanError) as caught:
        save(Result(images=[Image.fromarray(SHOWN)]), plan, "cat.png")
    assert caught.value.diagnostics[0].code.name == "output-taken"
    assert Path("cat.png").read_bytes() == b"old"
    save(Result(images=[Image.fromarray(SHOWN)]), plan, "cat.png", force=True)
    assert Image.open("cat.png").size == (8, 8)


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_videos(kind: str, plan: Any) -> None:
    import imageio.v3 as iio

    shades = [0.1, 0.5, 0.9]
    array = np.stack([np.full((32, 48, 3), shade, np.float32) for shade in shades])[None]
    frames: Any = {
        "pil": [[Image.fromarray(np.round(f * 255).astype(np.uint8)) for f in array[0]]],
        "np": array,
        "pt": torch.from_numpy(array).permute(0, 1, 4, 2, 3),
    }[kind]
    (path,) = save(Result(frames=frames), plan)
    assert path.name == "x-5.mp4"
    read = iio.imread(path, plugin="FFMPEG")
    assert read.shape == (3, 32, 48, 3)
    assert [abs(float(f.mean()) / 255 - s) < 0.03 for f, s in zip(read, shades, strict=True)] == [True] * 3
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 16
    (again,) = save(Result(frames=frames), plan)
    assert again.read_bytes() == path.read_bytes()
    (gif,) = save(Result(frames=frames), plan, "v.gif")
    assert getattr(Image.open(gif), "n_frames", 0) == 3


def test_sound(plan: Any) -> None:
    tone = np.sin(np.linspace(0, 100, 1600, dtype=np.float32)) * 2  # louder than can be: clipped
    for audios in (tone[None], torch.from_numpy(np.stack([tone, tone]))[None]):
        (path,) = save(Result(audios=audios), plan, sample_rate=8000)
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (8000, 1600, 2)
            data = np.frombuffer(file.readframes(1600), "<i2")
        assert (data.max(), data.min()) == (32767, -32767)


def test_a_video_with_its_sound_loses_neither(plan: Any) -> None:
    both = Result(frames=np.zeros((1, 2, 32, 32, 3), np.float32), audio=np.zeros((1, 2, 90), np.float32))
    assert names(save(both, plan)) == ["x-5.mp4", "x-5.wav"]
    assert names(save(both, plan)) == ["x-5-2.mp4", "x-5-2.wav"]
    assert names(save(both, plan, "cat.gif")) == ["cat.gif", "cat.wav"]
    with wave.open("cat.wav") as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 90)


def test_the_sample_rate_is_what_the_pipeline_says() -> None:
    vocoder = Result(config=Result(sampling_rate=16000, output_sampling_rate=24000))
    assert sample_rate_of(Result(vocoder=vocoder)) == 24000
    assert sample_rate_of(Result(vae=Result(config=Result(sampling_rate=44100)))) == 44100
    assert sample_rate_of(Result()) == 16000


@pytest.mark.parametrize(
    ("result", "out", "code"),
    [
        (Result(images=[Image.new("RGB", (2, 2))]), "cat.mp4", "bad-output"),
        (Result(images=[Image.new("RGB", (2, 2))]), "cat", "bad-output"),
        (Result(images=[Image.new("RGB", (2, 2))]), "no/such/cat.png", "output-unwritable"),
        (Result(images=torch.zeros(1, 16, 8, 8)), None, "unknown-output"),
        (Result(images=torch.zeros(1, 64, 8)[None, None]), None, "unknown-output"),
        (Result(prediction=1), None, "unknown-output"),
        (("text",), None, "unknown-output"),
        (None, None, "unknown-output"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(result: Any, out: Any, code: str, plan: Any) -> None:
    with pytest.raises(PlanError) as caught:
        save(result, plan, out)
    assert caught.value.diagnostics[0].code.name == code
    assert list(Path().iterdir()) == []


def test_a_writer_that_fails_leaves_the_old_file(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, path: Any, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    Path("cat.png").write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(PlanError, match=r'cannot write "cat\.png": No space left on device'):
        save(Result(images=[SHOWN / 255.0]), plan, "cat.png", force=True)
    assert Path("cat.png").read_bytes() == b"old"
    assert names(list(Path().iterdir())) == ["cat.png"]


def test_a_plan_made_in_a_script_may_have_any_name(plan: Any) -> None:
    named = replace(plan, name="../a:b")
    assert save(Result(images=[Image.fromarray(SHOWN)]), named) == [Path("_a_b-5.png")]


def test_pixels_in_bfloat16_which_numpy_does_not_know(plan: Any) -> None:
    pixels = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].to(torch.bfloat16)
    (path,) = save(Result(images=pixels), plan)
    assert abs(np.asarray(Image.open(path)).astype(int) - SHOWN).max() <= 1


@pytest.mark.parametrize(
    "result",
    [torch.ones(1, 3, 4, 4), torch.ones(2, 1, 4, 4), torch.ones(3, 4, 4), np.ones((4, 4, 3), np.float32)],
    ids=["batch", "grey", "one", "numpy"],
)
def test_a_tensor_alone_that_is_a_picture_is_saved_as_one(result: Any, plan: Any) -> None:
    paths, found = save_or_keep(result, plan, seed=0)
    assert found == []
    assert {path.suffix for path in paths} == {".png"}
    assert len(paths) == (len(result) if result.ndim == 4 else 1)


@pytest.mark.parametrize(
    "result",
    [
        torch.ones(1, 64),
        torch.ones(1, 4, 8, 8),
        torch.ones(5, dtype=torch.bfloat16),
        (torch.ones(2, 7, 9),),
        np.ones((3, 5)),
        torch.tensor(1.5),
    ],
    ids=["vector", "latents", "bfloat16", "tuple", "numpy", "number"],
)
def test_an_array_that_is_no_picture_is_kept(result: Any, plan: Any) -> None:
    for number in ("", "-2"):
        (path,), (found,) = save_or_keep(result, plan, seed=3)
        assert (found.code.name, found.severity.value) == ("unknown-output", "warning")
        assert path.name == f"{plan.name}-3{number}.npy"
        assert path.name in found.message
        value = result[0] if isinstance(result, tuple) else result
        value = value.float().numpy() if isinstance(value, torch.Tensor) else value
        assert np.array_equal(np.load(path), value)
    (path,), (found,) = save_or_keep(result, plan, "x.png", seed=3)
    assert found.severity.value == "error"


@pytest.mark.parametrize("result", [None, "text", ("text",), Result(prediction=1), [], {}, object()])
def test_what_nothing_can_hold_is_told_and_the_report_goes_on(result: Any, plan: Any) -> None:
    paths, (found,) = save_or_keep(result, plan)
    assert (paths, found.code.name, found.severity.value) == ([], "unknown-output", "error")
