"""The catalogue that ships is the one that the installed diffusers gives."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import pytest

from planner.generate.events import Looped, Ran
from planner.generate.walk import walk_of
from planner.target.catalogue import versions
from planner.target.model import WalkStage


def test_the_file_is_what_the_command_writes() -> None:
    version = metadata.version("diffusers")
    if version not in versions():
        pytest.skip(f"no catalogue ships for diffusers {version}")
    # A process of its own: other tests make pipeline classes of their own and change those that are there.
    code = "import sys; from planner.generate.write import catalogue_text; sys.stdout.write(catalogue_text())"
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    shipped = (resources.files("planner.target") / "data" / f"diffusers-{version}.json").read_text("utf-8")
    assert made.stdout == shipped


def ran(text: str) -> Ran:
    name = text.rstrip("?!")
    component, _, entry = name.partition(".")
    return Ran(component=component, entry=entry, optional="?" in text, choice="!" in text)


def steps(*body: str) -> Looped:
    return Looped(over="enumerate(timesteps)", body=tuple(map(ran, body)))


def told(*stages: WalkStage) -> list[str]:
    return [
        f"{s.id}: {' '.join(map(str, s.runs))} {s.loop}{'?' if s.optional else ''}".rstrip() for s in stages
    ]


def test_a_negative_prompt_makes_no_second_stage() -> None:
    events = (ran("text_encoder?"), ran("text_encoder_2?"), ran("text_encoder?"), ran("text_encoder_2?"))
    assert told(*walk_of((*events, steps("unet", "unet?"), ran("vae.decode?")))) == [
        "prompt: text_encoder text_encoder_2 ?",
        "denoise: unet steps",
        "decode: vae.decode ?",
    ]


def test_a_loop_over_one_component_is_no_loop() -> None:
    images = Looped(over="images", body=(ran("image_encoder?"),))
    assert told(*walk_of((images, steps("unet")))) == ["image: image_encoder ?", "denoise: unet steps"]


def test_chunks_hold_stages() -> None:
    chunk = Looped(over="range(chunks)", body=(ran("vae.encode"), steps("transformer"), ran("vae.decode")))
    (stage,) = walk_of((chunk,))
    assert (stage.id, stage.loop) == ("chunk", "times")
    assert told(*stage.stages) == ["encode: vae.encode", "denoise: transformer steps", "decode: vae.decode"]


def test_one_of_two_denoisers_is_no_option() -> None:
    (stage,) = walk_of((steps("transformer?!", "transformer_2?!"),))
    assert not stage.optional


def test_what_runs_twice_is_numbered() -> None:
    ids = [s.id for s in walk_of((steps("prior"), ran("vae.decode"), steps("unet")))]
    assert ids == ["denoise", "decode", "denoise-2"]
