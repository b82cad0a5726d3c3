"""The catalogue that ships is the one that the installed diffusers gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, resources

import diffusers
import pytest
from models import told as of

from planner.generate.classes import pipeline_classes
from planner.generate.components import components
from planner.generate.events import Looped, Ran, flat
from planner.generate.reader import Reader
from planner.generate.source import source_of
from planner.generate.walk import walk_of
from planner.generate.write import own_catalogue, to_text
from planner.target import catalogue
from planner.target.catalogue import versions
from planner.target.model import WalkStage


@pytest.fixture
def shipped() -> str:
    version = metadata.version("diffusers")
    if version not in versions():
        pytest.skip(f"no catalogue ships for diffusers {version}")
    return (resources.files("planner.target") / "data" / f"diffusers-{version}.json").read_text("utf-8")


@pytest.mark.wide
def test_the_file_is_what_the_command_writes(shipped: str) -> None:
    # A process of its own: other tests make pipeline classes of their own and change those that are there.
    code = "import sys; from planner.generate.write import catalogue_text; sys.stdout.write(catalogue_text())"
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8")
    assert made.stdout == shipped


def test_a_class_of_each_package_is_written_as_it_is_in_the_file(shipped: str) -> None:
    """The first of each package of pipelines, in this process; the whole file is wide."""
    there = json.loads(shipped)
    first: dict[str, type] = {}
    for name in sorted(there["classes"]):
        cls = getattr(diffusers, name, None)  # some are left out, or stand-ins where a package is missing
        if cls is not None and cls.__module__.startswith("diffusers.pipelines."):
            first.setdefault(cls.__module__.split(".")[2], cls)
    assert len(first) > 70
    made = json.loads(to_text(own_catalogue(first.values())))
    for name, record in made["classes"].items():
        assert record == {"module": record["module"], **there["classes"][name]}, name
    for key in ("keep_float32", "skip_casting"):
        assert made[key].items() <= there[key].items()
        assert made[key]


def ran(text: str) -> Ran:
    name = text.rstrip("?!")
    component, _, entry = name.partition(".")
    return Ran(component=component, entry=entry, optional="?" in text, choice="!" in text)


def steps(*body: str) -> Looped:
    return Looped(over="enumerate(timesteps)", body=tuple(map(ran, body)))


def told(*stages: WalkStage) -> list[str]:
    return [
        f"{s.id}: {' '.join(map(of, s.runs))} {s.loop}{'?' if s.optional else ''}".rstrip() for s in stages
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
    assert told(*walk_of((steps("transformer?!", "transformer_2?!"),))) == [
        "denoise: transformer transformer_2 steps"
    ]


def test_a_use_that_its_stage_has_under_a_condition() -> None:
    """A cover's audio is encoded between two uses of the text encoder, where there is one."""
    prompt = ("text_encoder", "vae.encode?!", "projector", "text_encoder?", "projector?")
    assert told(*walk_of((*map(ran, prompt), steps("unet", "guide?", "unet?")))) == [
        "prompt: text_encoder vae.encode? projector",
        "denoise: unet guide? steps",
    ]


def test_what_a_class_has_under_a_condition_its_walk_has_as_optional() -> None:
    """Of every class that ships with this diffusers, each use; what of two runs is another one each step."""
    for cls in pipeline_classes():
        known = catalogue.find(cls.__name__)
        if known is None or known.walk is None:
            continue
        source = source_of(cls)
        parts = components(cls, source)
        events = Reader([a.name for a in parts if a.module], source).read(cls, [a.name for a in parts])
        certain = {use.key for use in flat(events) if not use.optional}
        in_turns = {use.key for use in flat(e for e in events if isinstance(e, Looped)) if use.choice}
        assert certain <= set(happens(known.walk)) <= certain | in_turns, cls.__name__


def happens(walk: Sequence[WalkStage]) -> Iterator[tuple[str, str]]:
    """The uses that are not optional."""
    for stage in walk:
        if not stage.optional:
            yield from ((use.component, use.entry) for use in stage.runs if not use.optional)
            yield from happens(stage.stages)


def test_what_runs_twice_is_numbered() -> None:
    ids = [s.id for s in walk_of((steps("prior"), ran("vae.decode"), steps("unet")))]
    assert ids == ["denoise", "decode", "denoise-2"]
