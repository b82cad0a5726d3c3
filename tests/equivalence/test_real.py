"""Real pipelines whole: stock offload against ours, the walk against what ran, peaks against needs.

The default run has a few; ``pytest -m wide`` has every class that can be built.
"""

from __future__ import annotations

import pytest
from pipelines.plans import attached
from pipelines.registry import CASES, WIDE, build, run, same

from equivalence.declared import OWN_METHOD
from equivalence.real import NAMES, look
from equivalence.translated import improved
from equivalence.uses import follows
from planner.target import catalogue
from planner.target.model import WalkStage, WalkUse
from planner.virtual.backend import install

FEW = {
    "AmusedInpaintPipeline",
    "Flux2KleinInpaintPipeline",
    "KandinskyInpaintCombinedPipeline",
    "StableDiffusionXLControlNetUnionInpaintPipeline",
    "WanImageToVideoPipeline:two",
}

STOCK_BREAKS = ("ZImageControlNetInpaintPipeline", "ZImageControlNetPipeline")
"""The two components share their first parameter: accelerate (1.15) looks at that one alone, and takes all of
the second for moved when the first was."""

MOVES_ITSELF = {"StableUnCLIPImg2ImgPipeline", "StableUnCLIPPipeline"}
"""``image_normalizer.to()`` makes new parameters wherever it is sent: it stays, past any session."""


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


@pytest.mark.parametrize(
    "name",
    [n if n in FEW else pytest.param(n, marks=pytest.mark.wide) for n in NAMES if n not in STOCK_BREAKS],
)
def test_a_class_runs_as_under_diffusers_and_as_its_walk_says(name: str) -> None:
    seen = look(name)
    assert seen.same
    assert seen.liveness_same
    assert (seen.ours == seen.stock) is (name not in OWN_METHOD)
    assert seen.walked, seen.uses
    if name not in MOVES_ITSELF:
        assert seen.liveness_peak <= seen.need
        assert seen.liveness_peak < seen.stock_peak or seen.stock_peak <= seen.need


@pytest.mark.parametrize("name", STOCK_BREAKS)
def test_a_class_that_diffusers_offload_breaks_runs_in_a_session(name: str) -> None:
    stock = build(name)
    stock.enable_model_cpu_offload(device="sim:0")
    with pytest.raises(RuntimeError, match="at least two devices"):
        run(stock, name)

    pipe = build(name)
    session, _ = attached(improved(pipe), pipe)
    assert same(run(pipe, name), run(build(name).to("sim:0"), name))
    session.remove()


def test_most_classes_are_built() -> None:
    assert len({(CASES | WIDE)[name].cls for name in NAMES}) >= 180
    assert set(NAMES) >= FEW
    assert not set(CASES) & set(WIDE)


def stage(*runs: str, loop: bool = False, optional: bool = False) -> WalkStage:
    uses = tuple(WalkUse(component=r.partition(".")[0], entry=r.partition(".")[2]) for r in runs)
    return WalkStage(id=runs[0], runs=uses, loop="steps" if loop else "", optional=optional)


PROMPT = stage("a", "b")
WALK = (PROMPT, stage("vae.encode", optional=True), stage("net", "unet", loop=True), stage("vae.decode"))


@pytest.mark.parametrize(
    "uses",
    [
        "a b vae.encode net unet net unet vae.decode",
        "a b net unet vae.decode",
        "a b a b net unet unet vae.decode vae.decode",
    ],
)
def test_a_call_follows_the_walk(uses: str) -> None:
    assert follows(WALK, uses.split())


@pytest.mark.parametrize(
    "uses",
    [
        "a net unet vae.decode",
        "b a net unet vae.decode",
        "a b unet net unet vae.decode",
        "a b net unet",
        "a b net unet vae.encode vae.decode",
        "a b net unet vae.decode safety_checker",
        "",
    ],
)
def test_a_call_departs_from_the_walk(uses: str) -> None:
    assert not follows(WALK, uses.split())


def test_two_denoisers_take_turns() -> None:
    walk = (stage("transformer", "transformer_2", loop=True),)
    assert follows(walk, ["transformer", "transformer", "transformer_2"])
    assert not follows(walk, ["transformer", "vae.decode"])


def test_few_walks_can_be_run_backwards() -> None:
    """A walk that lets everything pass would say nothing."""
    target = catalogue.find("StableDiffusionXLControlNetInpaintPipeline")
    assert target is not None
    assert target.walk is not None
    uses = [
        "text_encoder",
        "text_encoder_2",
        "vae.encode",
        "controlnet",
        "unet",
        "controlnet",
        "unet",
        "vae.decode",
    ]
    assert follows(target.walk, uses)
    assert not follows(target.walk, uses[::-1])
    assert not follows(target.walk, [*uses[:3], *uses[4:]])
