"""A plan whose weights and activations fit, and whose allocations do not: validate says what explain says."""

from __future__ import annotations

import pytest

import planner
from planner.cards.shipped import card_at
from planner.predict.profile import CallProfile
from planner.schedule.card import imagined_as
from planner.source.text import SourceText

CARD = imagined_as(card_at("rtx-4090"))
PLAN = """version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
run: {prompt: a cat, height: 512, width: 512, num_inference_steps: 2}
budget: {vram: 2GiB}
"""
TEXT = SourceText(name="x.plan.yaml", text=PLAN)


@pytest.fixture(scope="module")
def call() -> CallProfile:
    return planner.profile(planner.load(TEXT))


def codes(call: CallProfile, mib: int, **more: bool) -> tuple[set[str], bool]:
    """Those of a budget of so much, and whether the forecast finds enough; none where it does not compile."""
    budget = [f"budget.vram={mib}MiB"]
    said = planner.validate(TEXT, overrides=budget, card=CARD, call=call, **more)  # type: ignore[arg-type]
    try:
        made = planner.compile(TEXT, overrides=budget, card=CARD, call=call).forecast
    except planner.PlanError:
        return {d.code.id for d in said.errors}, False
    assert made is not None
    return {d.code.id for d in said.diagnostics}, made.fits


def test_it_is_told_exactly_where_an_allocation_finds_too_little(call: CallProfile) -> None:
    told = [codes(call, mib) for mib in range(520, 900, 4)]
    assert any("P608" in found for found, _ in told)
    assert any(fits for _, fits in told)
    for found, fits in told:
        assert fits is not bool(found & {"P601", "P602", "P607", "P608"})


def test_strict_makes_it_an_error_and_no_rates_say_nothing(call: CallProfile) -> None:
    tight = next(mib for mib in range(520, 900, 4) if "P608" in codes(call, mib)[0])
    assert not planner.validate(
        TEXT, overrides=[f"budget.vram={tight}MiB"], card=CARD, call=call, strict=True
    )
    assert "P608" not in {d.code.id for d in planner.validate(TEXT, call=call).diagnostics}
