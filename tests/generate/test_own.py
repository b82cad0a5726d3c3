"""Classes that diffusers does not have are read from their own source, wherever it is."""

from __future__ import annotations

import linecache
import sys
from typing import Any

import pytest

from planner.diagnostics.diagnostic import PlanError
from planner.generate.own import catalogue_of
from planner.target.catalogue import Catalogue, versions
from planner.target.model import Target

from . import own


def target_of(cls: type) -> Target:
    target = Catalogue(versions()[0], (catalogue_of([cls]),)).find(cls.__name__)
    assert target is not None
    return target


def told(target: Target) -> list[str]:
    return [
        f"{s.id}: {' '.join(map(str, s.runs))}{' *' if s.loop == 'steps' else ''}{'?' if s.optional else ''}"
        for s in target.walk or ()
    ]


OWN = ["enc: enc", "denoise: guide net *", "dec: dec"]


@pytest.mark.parametrize("cls", [own.OmniGen2Pipeline, own.Renamed, own.FluxPipeline])
def test_a_class_of_ones_own(cls: type) -> None:
    target = target_of(cls)
    assert told(target) == OWN
    assert target.modules == ("enc", "net", "dec", "guide")
    assert [n for n, c in target.components.items() if c.optional] == ["guide"]
    assert (target.sequence, target.module, target.overrides) == ("enc->net->dec", own.__name__, False)


def test_a_subclass_runs_what_it_calls_and_what_it_inherits() -> None:
    target = target_of(own.Upscaled)
    assert told(target) == [
        "prompt: text_encoder text_encoder_2?",
        "denoise: unet *",
        "decode: vae.decode",
        "upscaler: upscaler",
    ]
    assert "upscaler" in target.modules


def test_a_class_of_a_notebook_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "from diffusers import DiffusionPipeline\n"
        "class Cell(DiffusionPipeline):\n"
        "    def __init__(self, a, b):\n"
        "        self.register_modules(a=a, b=b)\n"
        "    def __call__(self):\n"
        "        return self.b(self.a())\n"
    )
    name = "<ipython-input-1>"
    monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), space)
    assert told(target_of(space["Cell"])) == ["a: a", "b: b"]


def test_two_classes_of_one_name_in_one_file_are_two() -> None:
    def first() -> type:
        class Same(own.OmniGen2Pipeline):
            def __call__(self, *_: Any, **__: Any) -> Any:
                return self.enc(1)

        return Same

    def second() -> type:
        class Same(own.OmniGen2Pipeline):
            def __call__(self, *_: Any, **__: Any) -> Any:
                return self.dec(1)

        return Same

    assert told(target_of(first())) == ["enc: enc"]
    assert told(target_of(second())) == ["dec: dec"]


@pytest.mark.parametrize("thing", [own.Net, int])
def test_what_is_no_pipeline_class(thing: type) -> None:
    with pytest.raises(PlanError) as caught:
        catalogue_of([thing])
    assert [d.code.name for d in caught.value.diagnostics] == ["no-pipeline-class"]


def test_reading_does_not_run_the_class() -> None:
    class Bomb(own.OmniGen2Pipeline):
        def __init__(self, enc: Any) -> None:
            sys.exit("ran")

        def __call__(self, *_: Any, **__: Any) -> Any:
            sys.exit("ran")

    assert target_of(Bomb).modules == ("enc",)


def test_the_arguments_of_its_call() -> None:
    for cls in (own.OmniGen2Pipeline, own.Renamed):
        call = target_of(cls).call
        assert call is not None
        assert list(call.arguments) == ["prompt", "num_inference_steps", "boost", "shade", "tint"]
        assert [a.required for a in call.arguments.values()] == [True, False, False, False, False]
        assert [a.named for a in call.arguments.values()] == [True, True, True, False, False]
        assert call.arguments["num_inference_steps"].default == 4
        assert call.more
