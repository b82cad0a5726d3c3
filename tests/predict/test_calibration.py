"""What a run measured takes the place of what was predicted, use by use, and says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.api import with_calibration
from planner.cards.data import Link
from planner.cards.rates import Table
from planner.cards.shipped import card_at
from planner.loading.calibrations import calibration_of, kept, path_of
from planner.predict.calibration import (
    LARGE,
    Calibration,
    CalibrationError,
    MeasuredUse,
    calibrated,
    from_json,
    to_json,
)
from planner.predict.clock import BUSY
from planner.predict.forecast import Forecast, Interval, Lane, UseForecast
from planner.predict.profile import CallProfile
from planner.schedule.card import SIMULATED, Card, imagined_as

FLUX = str(Path(__file__).parents[2] / "plans" / "flux.plan.yaml")
H200 = imagined_as(card_at("h200"))


@pytest.fixture(scope="module")
def call() -> CallProfile:
    """Flux as it ships: 28 uses of the transformer, one of each other component."""
    return planner.profile(planner.load(FLUX))


def of(*uses: MeasuredUse, link: float | None = None, card: str = "NVIDIA H200") -> Calibration:
    return Calibration(pipeline="FluxPipeline", card=card, arguments={}, versions={}, uses=uses, link=link)


def used(component: str, seconds: float | None = None, allocated: int | None = None) -> MeasuredUse:
    entry = "decode" if component == "vae" else ""
    return MeasuredUse(component=component, entry=entry, seconds=seconds, allocated=allocated)


def forecast(call: CallProfile, card: Card) -> Forecast:
    found = planner.compile(FLUX, card=card, call=call).forecast
    assert found is not None
    return found


def of_component(found: Forecast, name: str) -> UseForecast:
    return next(use for use in found.uses if use.component == name)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_seconds_are_those_that_were_measured(call: CallProfile, factor: float) -> None:
    before = of_component(forecast(call, H200), "transformer")
    one = factor * (before.seconds - before.waits) / before.times
    made, card = with_calibration(call, H200, of(used("transformer", one, 600 << 20)))
    after = of_component(forecast(made, card), "transformer")
    assert (after.seconds - after.waits) / after.times == pytest.approx(one, rel=0.02)
    assert after.source == "measured"
    others = {use.component: use.source for use in forecast(made, card).uses}
    assert others.pop("transformer") == "measured"
    assert "measured" not in others.values()


def test_bytes_are_those_that_were_measured(call: CallProfile) -> None:
    made, _ = calibrated(call, None, of(used("vae", None, 3 << 30)))
    vae = next(use for use in made.uses if use.component == "vae")
    held = max(turn.held for turn in made.turns if made.uses[turn.use] is vae)
    assert max(held, vae.inputs) + vae.peak() == pytest.approx(3 << 30, rel=1e-4)
    assert "bytes as measured" in vae.notes
    least = {name: one.needed for name, one in planner.compile(FLUX, call=made).graph.activations.items()}
    assert least["vae"] > planner.compile(FLUX, call=call).graph.activations["vae"].needed


def test_only_what_is_all_measured_says_so(call: CallProfile) -> None:
    made, card = with_calibration(call, H200, of(used("transformer", 0.2), used("vae", None, 3 << 30)))
    assert "measured" not in {use.source for use in forecast(made, card).uses}
    assert next(use for use in made.uses if use.component == "transformer").measured == {"seconds"}


def test_a_link_is_as_quick_as_its_large_copies(call: CallProfile) -> None:
    _, card = with_calibration(call, H200, of(link=20e9))
    assert card.data is not None
    assert card.data.copy_seconds(LARGE) / BUSY == pytest.approx(LARGE / 20e9)
    assert card.data.source_of("link.to_device.pinned") == "measured"
    assert forecast(call, card).seconds > forecast(call, H200).seconds


def test_what_is_not_of_the_call_changes_nothing(call: CallProfile) -> None:
    made, data = calibrated(call, H200.data, of(used("unet", 0.1, 1 << 30)))
    assert (made, data) == (call, H200.data)


def test_the_same_text_for_the_same(call: CallProfile) -> None:
    said = of(used("vae", None, 3 << 30), used("transformer", 0.25), link=50e9)
    assert from_json(to_json(said)) == said


WRONG: Mapping[str, Any] = {
    "not JSON": "{",
    "another form": {"form": 99},
    "no mapping": [1],
    "a key less": {"link": ...},
    "seconds below zero": {"uses": [["vae", "decode", -1, None]]},
    "no number": {"link": "fast"},
    "not finite": {"link": "inf"},
    "true": {"uses": [["vae", "decode", True, None]]},
    "uses that are none": {"uses": [["vae"]]},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_no_calibration_is_told(
    what: str, call: CallProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path))
    plan, wrong = planner.load(FLUX), WRONG[what]
    if isinstance(wrong, dict):
        said = {**json.loads(to_json(of(link=1e9))), **wrong}
        wrong = {key: value for key, value in said.items() if value is not ...}
    text = wrong if isinstance(wrong, str) else json.dumps(wrong)
    path = path_of(plan, call, H200)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CalibrationError):
        from_json(text)
    found, problems = kept(plan, call, H200)
    assert found is None
    assert [problem.code.id for problem in problems] == ["P974"]
    with pytest.raises(planner.PlanError, match=path.name):
        planner.calibrated(plan, call, H200)


def test_kept_by_shapes_rules_and_card_and_not_by_steps(call: CallProfile) -> None:
    plan = planner.load(FLUX)
    other = planner.profile(planner.load(FLUX, overrides=["run.num_inference_steps=4"]))
    assert path_of(plan, call, H200) == path_of(plan, other, H200)
    small = planner.profile(planner.load(FLUX, overrides=["run.height=512", "run.width=512"]))
    assert path_of(plan, call, H200) != path_of(plan, small, H200)
    assert path_of(plan, call, H200) != path_of(plan, call, SIMULATED)
    rule = "quantization=[{component: transformer, backend: torchao, type: int8_weight_only}]"
    assert path_of(plan, call, H200) != path_of(planner.load(FLUX, overrides=[rule]), call, H200)


def measured() -> Forecast:
    """A transformer that streamed into its first of four uses, beside copies of the VAE in the last."""

    def interval(lane: Lane, component: str, stage: str, start: int, end: int, size: int = 0) -> Interval:
        return Interval(
            lane=lane, name=component, stage=stage, component=component, start=start, end=end, bytes=size
        )

    one = UseForecast(
        stage="denoise",
        component="transformer",
        entry="forward",
        times=4,
        allocated=700 << 20,
        reserved=800 << 20,
        needed=800 << 20,
        seconds=1.5,
        waits=float("nan"),
        source="measured",
    )
    decode = replace(one, stage="decode", component="vae", entry="decode", times=1, allocated=3 << 30)
    return Forecast(
        uses=(one, decode),
        intervals=(
            interval("copy", "transformer", "denoise", 0, 500_000, 20 << 30),
            interval("compute", "transformer", "denoise", 100_000, 900_000),
            interval("compute", "transformer", "denoise", 900_000, 1_100_000),
            interval("compute", "transformer", "denoise", 1_100_000, 1_310_000),
            interval("copy", "vae", "denoise", 1_310_000, 1_311_000, 1 << 20),
            interval("compute", "transformer", "denoise", 1_310_000, 1_530_000),
            interval("compute", "vae", "decode", 1_530_000, 2_000_000),
        ),
        samples=(),
        peak=0,
        seconds=2.0,
        first=2.0,
        source="measured",
    )


def test_seconds_are_of_uses_that_waited_for_nothing(call: CallProfile) -> None:
    """And not of the first, in which kernels are loaded: the VAE has none."""
    found = calibration_of(measured(), call, H200)
    uses = {use.component: use for use in found.uses}
    assert uses["transformer"].seconds == pytest.approx(0.21)
    assert uses["transformer"].allocated == (700 << 20) - call.workspace
    assert uses["vae"].seconds is None
    assert uses["vae"].entry == "decode"
    assert found.link == pytest.approx((20 << 30) / 0.5)
    assert found.card == "H200"


def test_a_streamed_component_has_no_seconds(call: CallProfile) -> None:
    seen = measured()
    copies = [replace(i, lane="copy", bytes=1 << 30) for i in seen.intervals if i.component == "transformer"]
    found = calibration_of(replace(seen, intervals=(*seen.intervals, *copies)), call, H200)
    assert [use.seconds for use in found.uses] == [None, None]


def test_seconds_of_a_simulation_are_no_cards(call: CallProfile) -> None:
    found = calibration_of(measured(), call, SIMULATED)
    assert found.card == "sim:0"
    assert found.link is None
    assert {use.seconds for use in found.uses} == {None}
    assert {use.allocated for use in found.uses} == {700 << 20, 3 << 30}


def slower() -> Card:
    """An H200 whose products take 1.7 times as long and whose link has half the rate."""
    data = card_at("h200")
    rates = {
        kind: {
            dtype: Table(tuple((sizes, rate / 1.7) for sizes, rate in table.points))
            for dtype, table in of_kind.items()
        }
        for kind, of_kind in data.rates.items()
    }
    link = Table(tuple((sizes, rate / 2) for sizes, rate in data.to_device.pinned.points))
    to_device = Link(pinned=link, pageable=data.to_device.pageable)
    return imagined_as(replace(data, rates=rates, to_device=to_device))


@pytest.mark.parametrize("budget", ["40GiB", "27GiB", "13.5GiB"])
def test_a_run_under_one_budget_tells_of_another(call: CallProfile, budget: str) -> None:
    """The slower card stands for the machine: its forecast at 40 GiB for the run that was measured."""

    def under(budget: str, card: Card, call: CallProfile) -> Forecast:
        found = planner.compile(FLUX, overrides=[f"budget.vram={budget}"], card=card, call=call).forecast
        assert found is not None
        return found

    real = slower()
    calibration = calibration_of(under("40GiB", real, call), call, H200)
    made, card = with_calibration(call, H200, calibration)
    truth = under(budget, real, call)
    assert abs(under(budget, H200, call).seconds / truth.seconds - 1) > 0.25
    assert under(budget, card, made).seconds == pytest.approx(truth.seconds, rel=0.03)
    assert under(budget, card, made).peak == pytest.approx(truth.peak, rel=0.01)
