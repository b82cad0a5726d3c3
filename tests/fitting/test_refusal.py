"""What is told where nothing fits: what binds, and what would help, as it was tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import planner
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.fitting.fit import Fitted
from planner.source.text import SourceText

FLUX = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, height: 64, width: 64, num_inference_steps: 4}
"""
RESIDENT = f"""\
{FLUX}components:
  transformer: {{policy: resident}}
  text_encoder: {{policy: resident}}
  text_encoder_2: {{policy: resident}}
  vae: {{policy: resident}}
"""
SDXL = "builtin:tiny-sdxl"
FOUR = {"height": 512, "width": 512, "num_images_per_prompt": 4}


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_PLANNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def fit(source: str, **asked: Any) -> Fitted:
    given = SourceText(name="x.plan.yaml", text=source) if "\n" in source else source
    return planner.fit(given, card="h200", **asked)


def refused(source: str, **asked: Any) -> dict[str, Diagnostic]:
    """By their codes, each the first of its kind."""
    with pytest.raises(PlanError) as caught:
        fit(source, **asked)
    return {one.code.id: one for one in reversed(caught.value.diagnostics)}


def said(hint: str, begins: str) -> list[str]:
    part = next((one for one in hint.split("; ") if one.startswith(begins)), begins)
    return [one for one in part.removeprefix(begins).split(", ") if one]


def enough(hint: str) -> list[str]:
    return [one.removeprefix("or ").removeprefix("with ") for one in said(hint, "a plan fits ")]


def little(hint: str) -> list[str]:
    return said(hint, "not enough: ")


def followed(source: str, asked: dict[str, Any], hint: str) -> Fitted:
    """The same fit with what a hint says."""
    if hint.startswith("without "):
        keys = hint.removeprefix("without ").split(" and ")
        return fit(source, **asked, overrides=[f"{key}=null" for key in keys])
    option, _, value = hint.partition(" ")
    if option == "--run":
        values = {key: int(number) for key, _, number in (one.partition("=") for one in value.split(","))}
        return fit(source, **asked | {"run": asked.get("run", {}) | values})
    asked = asked | {option.removeprefix("--"): tuple(value.split(",")) if option == "--allow" else value}
    return fit(source, **asked)


CASES = [
    (RESIDENT, {"vram": "840MiB"}, "without components.transformer.policy"),
    (SDXL, {"vram": "900MiB", "run": {"height": 768, "width": 768}}, "--allow tiling"),
    (SDXL, {"vram": "1GiB", "run": FOUR}, "--run num_images_per_prompt=1"),
    (SDXL, {"vram": "900MiB", "run": FOUR, "allow": ("slicing",)}, "--allow slicing,tiling"),
]


@pytest.mark.parametrize(
    ("source", "asked", "among"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.wide) for case in CASES[1:])],
)
def test_what_is_named_is_enough_and_what_is_not_is_not(
    source: str, asked: dict[str, Any], among: str
) -> None:
    hint = refused(source, **asked)["P991"].hint
    named = enough(hint)
    assert among in named
    assert not {*named} & {*little(hint)}
    for one in named:
        followed(source, asked, one)
    for one in little(hint):
        with pytest.raises(PlanError):
            followed(source, asked, one)


def test_weights_that_do_not_fit_are_told_and_no_smaller_picture_is_tried() -> None:
    """The budget has room for the context and 3 MiB more, and all that is to be resident takes more."""
    found = refused(RESIDENT, vram="768MiB")["P991"]
    assert "weights alone do not fit" in found.hint
    assert "--run" not in found.hint
    assert "--allow tiling" not in found.hint


def test_the_host_and_the_device_that_have_too_little_are_both_told() -> None:
    found = refused(FLUX, vram="770MiB", ram="1MiB")
    assert {"P606", "P991", "P607"} <= found.keys()
    assert "host memory" in found["P606"].message
    alone = refused(FLUX, vram="2GiB", ram="1MiB")
    assert "P606" in alone
    assert "P991" not in alone


def test_activations_are_told_beside_as_little_weights_as_can_be() -> None:
    """The compiler's own plan keeps more there: that is not what does not fit."""
    found = refused(FLUX, vram="800MiB")
    assert "activations" in found["P991"].message
    assert found["P607"].message in found["P991"].message


def test_calls_that_cannot_be_traced_are_not_judged() -> None:
    """Of a hub id whose configs are not here, those ship that a well-known call has."""
    hint = refused("Wan-AI/Wan2.2-TI2V-5B-Diffusers", vram="4GiB")["P991"].hint
    untried = said(hint, "not tried, as such calls cannot be traced here: ")
    assert any("num_frames" in one for one in untried)
    assert not any("num_frames" in one or "height" in one for one in (*enough(hint), *little(hint)))
