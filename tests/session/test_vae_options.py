"""Tiling and slicing under a plan: as by hand, for as long as the plan is there, also on what comes later."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from pipelines import wide  # noqa: F401  # adds to WIDE
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for
from pipelines.registry import close

import planner
from planner.session.checks import check_pipeline
from planner.session.vae_options import has_option
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

BOTH = [
    pytest.param(option, on, was, id=f"{option}-{'on' if on else 'off'}-{'on' if was else 'off'}-before")
    for option in ("tiling", "slicing")
    for on in (True, False)
    for was in (True, False)
]
FLUX = "FluxPipeline"
SEVERAL: dict[str, Any] = {"num_images_per_prompt": 3}


def said(option: str, on: bool) -> str:
    return f"components: {{vae: {{{option}: {'on' if on else 'off'}}}}}"


def setting(component: Any, option: str) -> bool:
    return bool(getattr(component, f"use_{option}"))


def by_hand(pipe: Any, option: str, on: bool) -> Any:
    getattr(pipe.vae, f"{'enable' if on else 'disable'}_{option}")()
    return pipe


@pytest.mark.parametrize(("option", "on", "was"), BOTH)
def test_it_is_as_by_hand_in_each_call_and_as_it_was_afterwards(option: str, on: bool, was: bool) -> None:
    install()
    wanted = run(by_hand(build(FLUX).to("sim:0"), option, on), FLUX, **SEVERAL)
    pipe = by_hand(build(FLUX), option, was)
    before = {name: vars(pipe.vae)[name] for name in vars(pipe.vae) if name.startswith(("use_", "tile_"))}
    session, _ = attached(plan_for(pipe, said(option, on)), pipe)
    for _ in range(2):
        assert same(run(pipe, FLUX, **SEVERAL), wanted)
        assert setting(pipe.vae, option) is on
    session.remove()
    assert {name: vars(pipe.vae)[name] for name in before} == before
    assert setting(pipe.vae, option) is was


def test_slicing_changes_no_more_than_rounding() -> None:
    pipe = build(FLUX)
    plain, one = run(pipe, FLUX, **SEVERAL), run(pipe, FLUX)
    session, _ = attached(plan_for(pipe, said("slicing", True)), pipe)
    assert close(run(pipe, FLUX, **SEVERAL), plain)
    assert same(run(pipe, FLUX), one)  # there is nothing to slice
    session.remove()


@pytest.mark.parametrize("option", ["tiling", "slicing"])
def test_a_component_that_comes_later_has_it_and_one_that_left_is_kept_by_nobody(option: str) -> None:
    pipe = build(FLUX)
    session, _ = attached(plan_for(pipe, said(option, True)), pipe)
    run(pipe, FLUX)
    gone, other = weakref.ref(pipe.vae), copy.deepcopy(build(FLUX).vae)
    pipe.vae = other
    run(pipe, FLUX)
    assert setting(other, option)
    gc.collect()
    assert gone() is None
    session.remove()
    assert not setting(other, option)


def test_a_component_that_comes_later_and_cannot_is_told() -> None:
    name = "StableDiffusionPipeline"
    pipe = build(name)
    session, _ = attached(plan_for(pipe, said("slicing", True)), pipe)
    pipe.vae = build("KandinskyV22Pipeline").movq
    with pytest.raises(TypeError, match="VQModel"):  # the pipeline calls it as its own
        run(pipe, name)
    told = [note for note in session.notes if note.code.id == "P719"]
    assert [note.severity.value for note in told] == ["warning"]
    session.remove()


@pytest.mark.parametrize("option", ["tiling", "slicing"])
@pytest.mark.parametrize("name", ["StableVideoDiffusionPipeline", "KandinskyV22Pipeline"])
def test_a_class_that_inherits_a_method_that_refuses_is_refused_first(name: str, option: str) -> None:
    pipe = build(name)
    part = "movq" if "Kandinsky" in name else "vae"
    assert hasattr(pipe.components[part], f"enable_{option}")
    assert not has_option(pipe.components[part], option)
    plan = plan_for(pipe, f"components: {{{part}: {{{option}: on}}}}")
    found = check_pipeline(plan, pipe, SimDevice())
    assert [d.code.id for d in found if d.severity.value == "error"] == ["P719"]
    with pytest.raises(planner.PlanError) as caught:
        planner.apply(plan, pipe, device="sim:0")
    assert {d.code.id for d in caught.value.diagnostics} & {"P325", "P719"}
    off = plan_for(pipe, f"components: {{{part}: {{{option}: off}}}}")  # it is
    session, _ = attached(off, pipe)
    session.remove()


VAES = {
    **dict.fromkeys(("FluxPipeline", "QwenImagePipeline", "WanPipeline", "SanaPipeline"), False),
    **dict.fromkeys(
        (
            *("LTXPipeline", "CogVideoXPipeline", "HunyuanVideoPipeline", "AllegroPipeline", "MochiPipeline"),
            *("HunyuanImagePipeline", "Flux2KleinPipeline", "CosmosTextToWorldPipeline"),
        ),
        True,
    ),
}
"""Pipelines with VAEs of different classes, and whether they are for ``pytest -m wide``."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.wide] * is_wide) for name, is_wide in VAES.items()]
)
def test_two_that_are_sliced_are_two_that_are_not_but_for_rounding(name: str) -> None:
    pipe = build(name)
    given: list[Any] = []
    decode = pipe.vae.decode

    def seen(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        return decode(*args, **kwargs)

    pipe.vae.__dict__["decode"] = seen
    run(pipe, name)
    (latents, *rest), kwargs = given[0]
    kwargs = {key: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v for key, v in kwargs.items()}
    two = torch.cat([latents, latents.flip(-1)])
    with torch.no_grad():
        together = decode(two, *rest, **kwargs)
        pipe.vae.enable_slicing()
        apart = decode(two, *rest, **kwargs)
    assert together[0].shape[0] == 2
    assert close((apart[0],), (together[0],))
