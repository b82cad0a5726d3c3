"""Generic classes mean what diffusers makes of them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from planner.target import catalogue
from planner.target.auto import is_generic, meant

TASKS = {
    "Text2Image": "AUTO_TEXT2IMAGE_PIPELINES_MAPPING",
    "Image2Image": "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING",
    "Inpainting": "AUTO_INPAINT_PIPELINES_MAPPING",
    "Text2Audio": "AUTO_TEXT2AUDIO_PIPELINES_MAPPING",
}


def tables() -> dict[str, dict[str, Any]]:
    """Those of the installed diffusers, as ``auto.json`` has them."""
    from diffusers.pipelines import auto_pipeline as theirs

    tasks = {
        f"AutoPipelineFor{name}": {key: cls.__name__ for key, cls in getattr(theirs, table).items()}
        for name, table in TASKS.items()
    }
    kinds: dict[str, str] = {}
    for mapping in theirs.SUPPORTED_TASKS_MAPPINGS:
        for kind, cls in mapping.items():
            kinds.setdefault(cls.__name__, kind)
    # Where sentencepiece is missing diffusers leaves these out.
    for task, name in (("Text2Image", "KolorsPipeline"), ("Image2Image", "KolorsImg2ImgPipeline")):
        tasks[f"AutoPipelineFor{task}"]["kolors"] = name
        kinds[name] = "kolors"
    tasks["AutoPipelineForText2Image"]["kolors-pag"] = "KolorsPAGPipeline"
    return {"tasks": tasks, "kinds": kinds | {"KolorsPAGPipeline": "kolors-pag"}}


def test_the_tables_are_those_of_diffusers() -> None:
    text = (resources.files("planner.target") / "data" / "auto.json").read_text(encoding="utf-8")
    assert json.loads(text) == tables()


def test_every_class_of_them_is_in_the_catalogue() -> None:
    for table in tables()["tasks"].values():
        for name in table.values():
            assert catalogue.find(name) is not None, name


@pytest.mark.parametrize(
    ("cls", "own", "expected"),
    [
        ("DiffusionPipeline", "FluxPipeline", "FluxPipeline"),
        ("DiffusionPipeline", "MyOwn", "MyOwn"),
        ("AutoPipelineForText2Image", "StableDiffusionXLPipeline", "StableDiffusionXLPipeline"),
        ("AutoPipelineForImage2Image", "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
        ("AutoPipelineForInpainting", "FluxPipeline", "FluxInpaintPipeline"),
        ("AutoPipelineForText2Image", "FluxInpaintPipeline", "FluxPipeline"),
        ("AutoPipelineForInpainting", "WanPipeline", None),
        ("AutoPipelineForText2Image", "MyOwn", None),
    ],
)
def test_what_is_meant(cls: str, own: str, expected: str | None) -> None:
    assert is_generic(cls)
    assert meant(cls, own) == expected


@pytest.mark.parametrize("cls", ["", "FluxPipeline", "AutoPipeline", "Diffusion"])
def test_what_is_not_generic(cls: str) -> None:
    assert not is_generic(cls)
