"""Built-in pipelines: the same bytes twice, the sizes that the compiler was told, real classes that run."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from planner.diagnostics.diagnostic import PlanError
from planner.loading.builtin import NAMES, builtin_folder, make, sizes, to_json
from planner.loading.fill import seeded
from planner.loading.pipeline import load_pipeline

SHORT = {
    "tiny-sdxl": "StableDiffusionXLPipeline",
    "tiny-flux": "FluxPipeline",
    "tiny-wan": "WanPipeline",
}
SMALL: dict[str, Any] = {"prompt": "a red cat", "num_inference_steps": 2, "height": 64, "width": 64}


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_two_builds_in_two_folders_are_byte_equal(name: str, tmp_path: Path) -> None:
    make(name, tmp_path / "one")
    torch.manual_seed(1234)  # the global generator has no say
    make(name, tmp_path / "elsewhere" / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "elsewhere" / "two")
    assert one == two
    assert "model_index.json" in one
    assert sum(1 for path in one if path.endswith(".safetensors")) == len(declared()[name]["components"])
    assert 2 << 20 < sum(map(len, one.values())) < 12 << 20


def test_seeded_weights_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    a = seeded("x", lambda: torch.nn.Linear(8, 8))
    b = seeded("y", lambda: torch.nn.Linear(8, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(a.weight, b.weight)
    assert torch.equal(a.weight, seeded("x", lambda: torch.nn.Linear(8, 8)).weight)


def test_the_compiler_is_told_the_bytes_that_a_session_lays_out() -> None:
    text = (resources.files("planner.target") / "data" / "builtins.json").read_text(encoding="utf-8")
    assert text == to_json(sizes()), "run: python -m planner.loading.builtin --sizes"


def test_the_denoiser_is_the_largest_and_no_two_components_weigh_the_same() -> None:
    for record in declared().values():
        float32 = {name: of["float32"] for name, of in record["components"].items()}
        bytes_ = {name: said["fixed"] + sum(said["blocks"]) for name, said in float32.items()}
        assert len(set(bytes_.values())) == len(bytes_)
        assert max(bytes_, key=lambda name: bytes_[name]) in ("unet", "transformer")


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_and_runs_and_runs_the_same_again(name: str, make_plan: Any) -> None:
    plan = make_plan(f"pipeline: {{class: {SHORT[name]}, source: 'builtin:{name}'}}")
    first, second = (picture(load_pipeline(plan), name) for _ in range(2))
    assert np.isfinite(first).all()
    assert first.std() > 0.01
    assert first.tobytes() == second.tobytes()


def test_the_prompt_reaches_the_picture(make_plan: Any) -> None:
    plan = make_plan("pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}")
    pipe = load_pipeline(plan)
    assert picture(pipe, "tiny-sdxl").tobytes() != picture(pipe, "tiny-sdxl", prompt="a blue dog").tobytes()


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(PlanError) as caught:
        builtin_folder("tiny-sdlx")
    (found,) = caught.value.diagnostics
    assert found.message == 'no built-in pipeline "tiny-sdlx"'
    assert found.hint == 'did you mean "tiny-sdxl"?'


def picture(pipe: Any, name: str, **more: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    frames = {"num_frames": 5} if name == "tiny-wan" else {}
    generator = torch.Generator().manual_seed(0)
    return pipe(**{**SMALL, **frames, **more}, generator=generator, output_type="np")[0]


def declared() -> dict[str, Any]:
    text = (resources.files("planner.target") / "data" / "builtins.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
