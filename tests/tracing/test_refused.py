"""Pipelines that cannot be made of their configs, and calls that lack something: told, never our fault."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.loading.builtin import builtin_folder
from planner.source.text import SourceText


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configs only."""
    made = tmp_path / "configs"
    shutil.copytree(builtin_folder("tiny-sdxl"), made, ignore=shutil.ignore_patterns("*.safetensors"))
    return made


def plan(folder: Path, cls: str = "StableDiffusionXLPipeline", run: str = "prompt: a cat") -> planner.Plan:
    text = f"version: 1\npipeline: {{class: {cls}, source: {json.dumps(str(folder))}}}\nrun: {{{run}}}\n"
    return planner.load(SourceText(name="x.plan.yaml", text=text))


def refused(one: planner.Plan) -> Any:
    with pytest.raises(PlanError) as caught:
        planner.profile(one)
    (found,) = caught.value.diagnostics
    return found


def _index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def _config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a class that there is not": (
        lambda f: _index(f, lambda i: i.update(unet=["diffusers", "NoSuchModel"])),
        "P912",
    ),
    "no class of a pipeline": (lambda f: _index(f, lambda i: i.pop("_class_name")), "P904"),
    "an index that is no mapping": (lambda f: (f / "model_index.json").write_text("[1]"), "P904"),
    "a config that is cut": (lambda f: (f / "unet" / "config.json").write_text('{"a": '), "P908"),
    "a config that is no mapping": (lambda f: (f / "unet" / "config.json").write_text("[1]"), "P908"),
    "a config with values of other types": (
        lambda f: _config(f, lambda c: c.update(block_out_channels="many")),
        "P912",
    ),
}


@pytest.mark.parametrize(("damage", "code"), DAMAGE.values(), ids=DAMAGE)
def test_pipelines_that_cannot_be_made(damage: Callable[[Path], object], code: str, folder: Path) -> None:
    damage(folder)
    assert refused(plan(folder)).code.id == code


def test_a_constructor_that_wants_a_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import StableDiffusionXLPipeline

    def wants(*_: object, **__: object) -> None:
        raise ImportError("`cosmos_guardrail` is not installed: `pip install cosmos_guardrail`.")

    monkeypatch.setattr(StableDiffusionXLPipeline, "__init__", wants)
    found = refused(plan(folder))
    assert "cosmos_guardrail" in found.message


def test_what_a_call_lacks_is_told(folder: Path) -> None:
    found = refused(plan(folder, "StableDiffusionXLImg2ImgPipeline"))
    assert found.code.id == "P932"
    assert "run has no image" in found.hint
    found = refused(plan(folder, run="prompt: a cat, height: 63"))
    assert found.code.id == "P932"
    assert not found.hint


def test_a_prompt_is_missed_where_nothing_stands_for_it(folder: Path) -> None:
    assert "run has no prompt: --set run.prompt=TEXT" in refused(plan(folder, run="height: 64")).hint


def test_of_what_is_raised_the_beginning_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch tells of an operation that a device lacks where each of its kernels was registered."""
    from diffusers import StableDiffusionXLPipeline

    def lacks(*_: object, **__: object) -> None:
        raise NotImplementedError("Could not run 'aten::x' here.\n" + "CPU: registered at a.cpp:7\n" * 200)

    monkeypatch.setattr(StableDiffusionXLPipeline, "encode_prompt", lacks)
    found = refused(plan(folder))
    assert "raised NotImplementedError: Could not run 'aten::x' here. CPU:" in found.message
    assert found.message.endswith(" ...")
    assert len(found.message) < 400


def test_a_class_that_makes_no_tensors_is_traced_as_it_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ShapE knows of pil, np, latent and mesh."""
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    from diffusers import StableDiffusionXLPipeline

    usual = StableDiffusionXLPipeline.check_inputs
    asked = []

    def checks(pipe: Any, *arguments: Any, **more: Any) -> None:
        asked.append(inspect.currentframe().f_back.f_locals["output_type"])  # type: ignore[union-attr]
        if asked[-1] == "pt":
            raise ValueError("Only the output types `pil` and `np` are supported not output_type=pt")
        usual(pipe, *arguments, **more)

    monkeypatch.setattr(StableDiffusionXLPipeline, "check_inputs", checks)
    again = planner.profile(plan(folder, run="prompt: a cat, height: 64, width: 64, num_inference_steps: 2"))
    assert [(use.component, use.entry) for use in again.uses][-1] == ("vae", "decode")
    assert asked == ["pt", "pil"]
    assert "only a" not in refused(plan(folder, run="prompt: a cat, output_type: pt")).message


def test_configs_alone_are_pointed_at_what_they_do_for(folder: Path) -> None:
    checked = planner.validate(plan(folder))
    assert {d.code.id for d in checked.errors} == {"P353"}
    assert all("--activations" in d.hint for d in checked.errors)
    assert planner.profile(plan(folder, run="prompt: a cat, height: 64, width: 64")).uses
