"""Every class with a sequence, its components stubs: diffusers' offload against ours, event by event."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.plans import as_diffusers, attached, read

from equivalence import play
from equivalence.compare import compare
from equivalence.declared import OWN_METHOD, UNSEEN_IN_WALK
from equivalence.scripts import KINDS, first_of_alike, frees, is_usual, scripts
from equivalence.stubs import Stub, known, pipeline, real_class, seen, sizes_of
from equivalence.translated import translated
from planner.translation.lint import NEVER_FREE
from planner.virtual.backend import install

CLASSES = play.classes()
SOME = ("FluxPipeline", "AmusedInpaintPipeline")


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


@pytest.mark.parametrize(
    ("which", "strict", "events"),
    [("few", 500, 3_000), pytest.param("all", 6000, 40_000, marks=pytest.mark.wide)],
)
def test_all_classes_move_as_diffusers_moves_them(
    which: str, strict: int, events: int, tmp_path: Path
) -> None:
    said = {name: tmp_path / f"{name}.json" for name in ("stock", "ours")}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "equivalence.play", name, which, str(out)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name, out in said.items()
    ]
    assert [process.wait() for process in running] == [0, 0]
    stock, ours = (json.loads(out.read_text()) for out in said.values())
    found = compare(stock, ours)
    print(found)
    assert found.different == ()
    played = CLASSES if which == "all" else first_of_alike(CLASSES)
    assert found.classes == len(played)
    assert len(CLASSES) == 284
    assert len(first_of_alike(CLASSES)) > 150
    assert found.strict > strict
    assert found.events > events
    walks = {name: stock[name]["walk, all uses"] for name in stock if "walk, all uses" in stock[name]}
    differ = {n for n, w in walks.items() if w["call"] != ours[n]["walk, all uses"]["call"]}
    assert differ == set(UNSEEN_IN_WALK)
    assert {use for name in differ for use in walks[name]["lost"]} == {
        use for uses in UNSEEN_IN_WALK.values() for use in uses
    }


def test_the_classes_that_never_free_their_hooks() -> None:
    assert {name for name in CLASSES if not frees(name)} == NEVER_FREE


def test_the_classes_with_a_method_of_their_own() -> None:
    own = {name for name in CLASSES if "enable_model_cpu_offload" in _defined(real_class(name))}
    assert own == OWN_METHOD


def test_every_run_has_each_kind_of_variation() -> None:
    usual = [one for name in first_of_alike(CLASSES) for one in scripts(name) if is_usual(name, one)]
    played = {one.name.removesuffix(", all uses") for one in usual}
    assert {"walk"}.union(*KINDS) <= played
    assert any(len(one.absent) > 1 for one in usual)


def test_the_scripts_cover_each_component_and_each_variation() -> None:
    for name in CLASSES:
        made = list(scripts(name))
        names = [script.name for script in made]
        used = {step.component for script in made for step in script.steps}
        assert len(set(names)) == len(names)
        assert {"walk", "again", "fails at 0"} <= set(names)
        assert {f"without {component}" for component in used} <= set(names)
        optional = {n for n in known(name).modules if known(name).components[n].optional}
        assert optional <= {n for script in made for n in script.absent}


@pytest.mark.parametrize("name", SOME)
def test_another_order_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = {name: play.play(name, "stock")}
    assert compare(stock, {name: play.play(name, "ours")}).different == ()

    def backwards(pipe: Any) -> Any:
        order = " -> ".join(reversed([n for n in known(name).modules if n in pipe.components]))
        return read(f"version: 1\npipeline: {name}\nsemantics: diffusers\norder: {order}\n")

    monkeypatch.setattr(play, "translated", backwards)
    assert len(compare(stock, {name: play.play(name, "ours")}).different) > 5


def test_an_excluded_component_that_moves_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "StableDiffusionPipeline"
    stock = {name: play.play(name, "stock")}

    def forgets(pipe: Any) -> Any:
        return replace(translated(pipe), exclude=())

    monkeypatch.setattr(play, "translated", forgets)
    found = compare(stock, {name: play.play(name, "ours")}).different
    assert any("on: stock ['+safety_checker'], ours []" in said for said in found), found


def test_stubs_show_to_hooks_what_the_real_components_show() -> None:
    assert seen("StableDiffusionPipeline", "vae", "encode") == "hook"
    assert seen("Flux2Pipeline", "text_encoder", "generate") == "forward"
    assert seen("UniDiffuserPipeline", "text_decoder", "encode") == "nothing"
    assert seen("AnimateDiffPipeline", "text_encoder", "text_model.final_layer_norm") == "module"
    assert len({*sizes_of("FluxPipeline").values()}) == len(sizes_of("FluxPipeline"))


def test_a_component_without_parameters_stops_diffusers_and_not_us() -> None:
    def call(pipe: Any) -> str:
        pipe.text_encoder()
        return "ran"

    def made() -> Any:
        pipe = pipeline("StableDiffusionXLPipeline", call)
        pipe.text_encoder = type("Bare", (Stub,), {"device": torch.device("cpu"), "dtype": torch.float32})(0)
        del pipe.text_encoder.weight
        return pipe

    stock = made()
    stock.enable_model_cpu_offload(device="sim:0")
    with pytest.raises(StopIteration):
        stock()
    pipe = made()
    attached(as_diffusers(pipe), pipe)
    assert pipe() == "ran"


def _defined(cls: type) -> set[str]:
    """What the class and its bases define, up to ``DiffusionPipeline``."""
    bases = [base for base in inspect.getmro(cls) if base.__module__.startswith("diffusers.pipelines.")]
    return {name for base in bases if base.__name__ != "DiffusionPipeline" for name in vars(base)}
