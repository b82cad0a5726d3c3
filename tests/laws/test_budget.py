"""Whatever the plan, the budget and the order of calls: never above the budget, but by what others hold; and
the results are right."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for, read, schedule_for, tight

from laws.policies import SD, nothing_left, small
from planner.diagnostics.diagnostic import PlanError
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

pytestmark = pytest.mark.usefixtures("alone_on_the_card")

NAMES = ("encoder", "big", "decoder")
USES = ("call", "encoder", "big", "decoder", "scope", "remove one", "keep")


class Watched(SimDevice):
    """Notes the most that its own pieces were, beside what others hold."""

    most = 0

    def alloc(self, nbytes: int, label: str, owned: list[Any] | None = None) -> Any:
        """As SimDevice."""
        piece = super().alloc(nbytes, label, owned)
        self.most = max(self.most, self.own - self.abandoned)
        return piece


POLICY = st.sampled_from(
    ("", "offload", "stream", "{policy: stream, prefetch: 1}", "{policy: stream, resident: 40%}")
)


@st.composite
def plans(draw: st.DrawFn) -> str:
    said = {name: how for name in NAMES if (how := draw(POLICY))}
    lines = ["version: 1", "pipeline: {class: Small}", "order: encoder -> big -> decoder"]
    if said:
        lines.append(f"components: {{{', '.join(f'{n}: {p}' for n, p in said.items())}}}")
    if draw(st.booleans()):
        lines.append("idle: keep")
    return "\n".join(lines) + "\n"


def truth() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    pipe = small()
    with torch.no_grad():
        return pipe(), {name: getattr(pipe, name)(torch.ones(1, 32)) for name in NAMES}


@settings(
    max_examples=15,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(
    text=plans(),
    share=st.floats(1.0, 3.0),
    uses=st.lists(st.sampled_from(USES), min_size=2, max_size=6),
    capped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_never_above_the_budget(text: str, share: float, uses: list[str], capped: bool, seed: int) -> None:
    picture, parts = truth()
    pipe, plan = small(), read(text)
    budget = int(tight(pipe, plan) * share) + (200 << 10 if capped else 0)
    device = Watched(aliases=True, seed=seed, capped=capped)
    session, _ = attached(plan, pipe, budget, device)
    kept: list[torch.Tensor] = []
    with torch.no_grad():
        for use in uses:
            if use == "call":
                assert torch.allclose(pipe(), picture, atol=1e-6)
            elif use in NAMES:
                made = getattr(pipe, use)(torch.ones(1, 32, device="sim:0")).cpu()
                assert torch.allclose(made, parts[use], atol=1e-6)
            elif use == "scope":
                with session.call():
                    for name in ("decoder", "encoder", "big"):
                        made = getattr(pipe, name)(torch.ones(1, 32, device="sim:0")).cpu()
                        assert torch.allclose(made, parts[name], atol=1e-6)
            elif use == "keep" and share > 2.5:
                pipe.encoder.after = lambda number, layer: (
                    kept.append(layer.bias.detach()) if not kept else None
                )
    assert device.most <= budget
    kept.clear()
    pipe.encoder.after = lambda number, layer: None
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("policy", ["", "components: {unet: {policy: stream, prefetch: 1}}"])
def test_uses_outside_of_a_call_do_not_pile_up(policy: str, capped: bool) -> None:
    """``idle: keep``, and each component called by itself, in any order."""
    pipe = build(SD)
    plan = plan_for(pipe, *([policy] if policy else []), "idle: keep")
    budget = tight(pipe, plan) + (4 << 20 if capped else 0)
    device = Watched(aliases=True, seed=3, capped=capped)
    session, _ = attached(plan, pipe, budget, device)
    uses = {
        "text_encoder": lambda: pipe.text_encoder(torch.zeros(1, 4, dtype=torch.long)),
        "unet": lambda: pipe.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, 32)),
        "vae": lambda: pipe.vae.decode(torch.zeros(1, 4, 4, 4)),
    }
    with torch.no_grad():
        for name in ("text_encoder", "unet", "vae", "unet", "vae", "text_encoder", "vae", "unet"):
            uses[name]()
    run(pipe, SD)
    assert device.most <= budget
    nothing_left(pipe, session, device)


def test_two_pipelines_share_one_budget() -> None:
    one, two = build(SD), build(SD)
    plan = plan_for(one, "idle: keep")
    budget = tight(one, plan)
    device = Watched(aliases=True, seed=5)
    first, _ = attached(plan, one, budget, device)
    second, _ = attached(plan_for(two, "idle: keep"), two, budget, device)
    install()
    expected = run(build(SD).to("sim:0"), SD)
    for pipe in (one, two, one, two):
        assert same(run(pipe, SD), expected)
    assert device.most <= budget
    second.remove()
    nothing_left(one, first, device)


def test_a_training_forward_stays_in_the_budget() -> None:
    pipe = build(SD)
    plan = plan_for(pipe)
    budget = tight(pipe, plan)
    device = Watched(aliases=True, seed=5)
    session, _ = attached(plan, pipe, budget, device)
    kept = [pipe.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, 32)).sample for _ in range(3)]
    with torch.no_grad():
        run(pipe, SD)
    assert device.most <= budget
    assert device.abandoned == 0
    del kept
    gc.collect()
    nothing_left(pipe, session, device)


def test_a_budget_that_nothing_fits_is_an_error_before_anything() -> None:
    pipe = build(SD)
    with pytest.raises((PlanError, AssertionError)):
        schedule_for(plan_for(pipe, "components: {unet: resident}"), pipe, 10)
    assert run(pipe, SD)
