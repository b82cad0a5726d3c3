"""A forecast is of what a session does: the same uses in the same stages, bytes moved and bytes held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from covering import covering
from pipelines import wide  # noqa: F401  # adds to WIDE
from pipelines.all import CASES, arguments, build
from pipelines.plans import attached, plan_for
from pipelines.registry import WIDE

from planner.api import compile
from planner.cards.kernels import HOPPER
from planner.cards.shipped import card_at
from planner.predict.call import forecast
from planner.predict.forecast import Forecast
from planner.tracing.trace import trace

DEFAULT = {"FluxPipeline": "stream", "StableDiffusionXLPipeline": "offload", "WanPipeline": "resident"}
"""With which policy; all with each are ``wide``."""
NOT_TRACED = ("StableDiffusionSAGPipeline", "AnyFlowFARPipeline")
"""As ``tests/tracing/test_uses.py`` says."""
_OTHERWISE = {
    "AceStepPipeline": (
        ("offload", "stream", "resident"),
        "a submodule of its text encoder is called by itself",
    ),
    "StableUnCLIPPipeline": (("offload",), "a component makes new parameters when it is moved"),
    "StableUnCLIPImg2ImgPipeline": (("offload",), "a component makes new parameters when it is moved"),
    "ZImageControlNetPipeline": (("resident",), "two components have modules in common"),
    "ZImageControlNetInpaintPipeline": (("resident",), "two components have modules in common"),
    "TextToVideoZeroSDXLPipeline": (("resident",), "the call changes its U-Net, which then comes again"),
}
"""What a forecast does not know, with the policies under which it shows."""


def _marks(name: str, policy: str) -> list[pytest.MarkDecorator]:
    policies, why = _OTHERWISE.get(name, ((), ""))
    often = [] if DEFAULT.get(name) == policy else [pytest.mark.wide]
    return [*often, *([pytest.mark.xfail(reason=why, strict=True)] if policy in policies else [])]


EACH = [
    pytest.param(name, policy, marks=_marks(name, policy))
    for name in [*CASES, *WIDE]
    for policy in ("offload", "stream", "resident")
    if name not in NOT_TRACED
]


def foreseen(pipe: Any, plan: Any, name: str) -> Forecast:
    compiled = compile(plan, pipe)
    return forecast(compiled.graph, compiled.schedule, trace(pipe, arguments(name), HOPPER), card_at("h200"))


@pytest.mark.parametrize(("name", "policy"), EACH)
def test_what_a_session_moves_and_holds(name: str, policy: str) -> None:
    compare(build(name), name, policy)


@pytest.mark.parametrize(
    ("name", "policy"),
    covering(
        ["StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"], ["offload", "stream", "resident"]
    ),
)
def test_what_is_cast_in_the_call_is_counted_as_it_is_then(name: str, policy: str) -> None:
    pipe = build(name)
    pipe.vae.half()
    pipe.vae.register_to_config(force_upcast=True)
    weights = sum(t.nbytes for t in pipe.vae.parameters())
    uses = [use.weights for use in trace(pipe, arguments(name), HOPPER).uses if use.component == "vae"]
    cast = [one.fixed + sum(size for _, size in one.blocks) for one in uses if one is not None]
    assert len(cast) == len(uses) > 0
    assert min(cast) >= 2 * weights
    compare(pipe, name, policy)


def compare(pipe: Any, name: str, policy: str) -> None:
    parts = [n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)]
    said = f"{{policy: {policy}{', prefetch: 1' if policy == 'stream' else ''}}}"
    plan = plan_for(pipe, f"components: {{{', '.join(f'{n}: {said}' for n in parts)}}}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = foreseen(pipe, plan, name)
    session, _ = attached(plan, pipe)
    torch.manual_seed(7)
    with torch.no_grad():
        pipe(**arguments(name))
    record = session.applied.last
    assert record is not None
    uses = [(e.stage, e.component, e.entry or "forward") for e in record.events if e.do == "use"]
    counted = {key: uses.count(key) for key in dict.fromkeys(uses)}
    session.remove()
    assert {(u.stage, u.component, u.entry): u.times for u in found.uses} == counted
    if policy == "stream":
        # A session brings more: a first call does not know in which order blocks run, and where a forward
        # enters one twice (a norm, and a dropout that computes nothing) some come again.
        assert 0 < found.moved <= record.moved
    else:
        assert found.moved == record.moved
    assert max(s.weights for s in found.samples) == record.peak


def test_no_room_for_what_libraries_keep() -> None:
    pipe = build("FluxPipeline")
    plan = plan_for(pipe, "budget: {vram: 6MiB}")
    compiled = compile(plan, pipe)
    call = trace(pipe, arguments("FluxPipeline"), HOPPER)
    assert call.workspace > 6 << 20
    found = forecast(compiled.graph, compiled.schedule, call, card_at("h200"))
    assert not found.fits
    assert "the budget has no room for what libraries keep" in found.notes
    assert found.peak > call.workspace


def test_blocks_that_were_not_those_traced_are_played_as_one() -> None:
    """Of weights in one file, say, whose blocks nobody counted."""
    pipe = build("FluxPipeline")
    compiled = compile(plan_for(pipe, ""), pipe)
    call = trace(pipe, arguments("FluxPipeline"), HOPPER)
    plain = forecast(compiled.graph, compiled.schedule, call, card_at("h200"))
    target = compiled.graph.target
    components = dict(target.components)
    components["transformer"] = replace(components["transformer"], blocks=None)
    graph = replace(compiled.graph, target=replace(target, components=components))
    found = forecast(graph, compiled.schedule, call, card_at("h200"))
    assert "transformer: played as one, since its blocks are not those traced" in found.notes
    assert not any("played as one" in note for note in plain.notes)
    assert found.moved == plain.moved
    assert [(u.component, u.times, u.allocated) for u in found.uses] == [
        (u.component, u.times, u.allocated) for u in plain.uses
    ]
