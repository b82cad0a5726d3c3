"""What loading and applying take: sums of bytes by rates, what is not known, and where figures come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from models import MIB, plan, target

import planner
from planner.cards.data import HOST, CardData, Host
from planner.cards.shipped import shipped_card
from planner.graph.build import build_graph
from planner.plan.model import Plan
from planner.predict.clock import BUSY
from planner.predict.start import LAID, LOADED, Start, start
from planner.schedule.lower import lower
from planner.source.text import SourceText
from planner.target.extents import PACKED, PIECE
from planner.target.model import Target

SMALL, LARGE = [MIB] * 20, [PACKED] * 5
WEIGHTS = {"encoder": [*SMALL, *LARGE], "denoiser": [100 * MIB] * 7, "vae": [MIB, 8 * MIB]}
DATA = replace(shipped_card("h200"), host=Host(read=5e9, pack=2e9))


def known(weights: dict[str, list[int]] = WEIGHTS, **others: Any) -> Target:
    made = target({name: sum(sizes) // MIB for name, sizes in weights.items()})
    return replace(
        made,
        components={
            name: replace(
                info,
                weights=tuple((str(n), size) for n, size in enumerate(weights[name])),
                converted=0,
                **others.get(name, {}),
            )
            if name in weights
            else info
            for name, info in made.components.items()
        },
    )


def foreseen(
    text: str = "", to: Target | None = None, card: CardData = DATA, weights: Sequence[str] = tuple(WEIGHTS)
) -> Start:
    said = plan(" -> ".join(weights))
    if text:
        asked = f"version: 1\nname: x\npipeline: XPipeline\norder: {' -> '.join(weights)}\n{text}\n"
        said = planner.load(SourceText(name="x.plan.yaml", text=asked))
    return of(said, known() if to is None else to, card)


def of(said: Plan, to: Target, card: CardData) -> Start:
    graph, found = build_graph(said, to)
    assert graph is not None, found
    schedule, found = lower(graph)
    assert schedule is not None, found
    return start(said, to, schedule, card)


def test_what_each_is_made_of() -> None:
    found = foreseen()
    every = [size for sizes in WEIGHTS.values() for size in sizes]
    python = len(every) * DATA.dispatch
    assert found.read == found.registered == sum(every)
    assert found.packed == 21 * MIB, "what is smaller than PACKED"
    assert found.placed == 0
    assert found.load.seconds == pytest.approx(sum(every) / 5e9 + LOADED * python)
    rest = (sum(every) - found.packed) / DATA.register
    assert found.apply.seconds == pytest.approx(found.packed / 2e9 + rest + LAID * python)


def test_what_stays_on_the_device_is_copied_when_the_plan_is_applied() -> None:
    without, found = foreseen(), foreseen("components: {denoiser: resident}")
    assert (without.placed, found.placed) == (0, 700 * MIB)
    assert found.load == without.load
    assert found.apply.seconds is not None
    assert without.apply.seconds is not None
    copied = DATA.copy_seconds(700 * MIB) / BUSY
    assert found.apply.seconds - without.apply.seconds == pytest.approx(copied)


def test_less_that_may_be_registered_takes_less_and_is_placed_slower() -> None:
    limits = [0, PIECE, 2 * PIECE]
    said = [foreseen(f"budget: {{pinned: {limit}B}}") for limit in limits if limit]
    assert [one.registered for one in said] == [PIECE, foreseen().registered]
    assert [one.packed for one in said] == [foreseen().packed] * 2, "packing does not ask what is registered"
    seconds = [one.apply.seconds or 0 for one in said]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[1] == foreseen().apply.seconds
    resident = "components: {denoiser: resident}\nbudget: {pinned: 1MiB}"
    slow, fast = foreseen(resident), foreseen("components: {denoiser: resident}")
    pageable = DATA.copy_seconds(700 * MIB, pinned=False) / BUSY
    assert slow.registered == 0
    assert (slow.apply.seconds or 0) > pageable > (fast.apply.seconds or 0) / 4


@pytest.mark.parametrize("backend", ["mps", "xpu"])
def test_devices_without_registering_do_not(backend: str) -> None:
    found = foreseen(card=replace(DATA, backend=backend))
    assert found.registered == 0
    python = LAID * DATA.dispatch * sum(map(len, WEIGHTS.values()))
    assert found.apply.seconds == pytest.approx(found.packed / 2e9 + python)


INT8 = "{component: denoiser, backend: torchao, type: int8_weight_only}"
CAST = "{component: denoiser, backend: layerwise_cast, storage_dtype: float8_e4m3fn}"


@pytest.mark.parametrize(
    ("text", "info", "load", "apply"),
    [
        (f"quantization: [{INT8}]", {}, "denoiser: quantized", "denoiser: quantized"),
        (f"quantization: [{CAST}]", {}, "", "denoiser: its weights are cast"),
        ("loras: [{lora_id: some/lora}]", {}, "LoRAs", "LoRAs"),
        ("", {"quantized": "bitsandbytes", "weights": None}, "denoiser: quantized", "denoiser: quantized"),
        ("", {"weights": None}, "denoiser: which weights", "denoiser: which weights"),
        ("", {"bytes": None, "blocks": None, "weights": None}, "denoiser: its size", "denoiser: its size"),
        ("", {"converted": 7}, "denoiser: its files have another dtype", ""),
    ],
)
def test_what_is_not_known_is_not_guessed(text: str, info: dict[str, Any], load: str, apply: str) -> None:
    to = known()
    one = replace(to.components["denoiser"], **info)
    found = foreseen(text, replace(to, components={**to.components, "denoiser": one}))
    for figure, why in ((found.load, load), (found.apply, apply)):
        assert (figure.seconds is None) is (figure.source == "not known") is bool(figure.why) is bool(why)
        assert figure.why.startswith(why)


def test_weights_that_are_cast_stay_in_their_files_until_then() -> None:
    assert foreseen(f"quantization: [{CAST}]").read == foreseen().read - 700 * MIB


def test_several_are_told_by_what_they_have_in_common() -> None:
    to = known()
    others = {name: replace(to.components[name], converted=7) for name in ("encoder", "vae")}
    found = foreseen(to=replace(to, components={**to.components, **others}))
    assert found.load.why == "encoder, vae: its files have another dtype"


def test_what_may_be_left_out_and_is_not_known_is_not_there() -> None:
    to = known()
    more = replace(to.components["vae"], name="safety", optional=True, bytes=None, blocks=None, weights=None)
    assert foreseen(to=replace(to, components={**to.components, "safety": more})) == foreseen()


def test_where_figures_come_from() -> None:
    sources = {**DATA.sources, "host": "measured", "dispatch": "measured"}
    measured = replace(DATA, sources=sources)
    assert foreseen(card=measured).load.source == foreseen(card=measured).apply.source == "predicted"
    for path, load, apply in (
        ("host.read", "assumed", "predicted"),
        ("host.pack", "predicted", "assumed"),
        ("link", "predicted", "assumed"),
        ("dispatch", "assumed", "assumed"),
    ):
        found = foreseen(card=replace(measured, sources={**sources, path: "assumed"}))
        assert (found.load.source, found.apply.source) == (load, apply), path
    without = replace(measured, host=None)
    found = foreseen(card=without)
    assert found.load.source == found.apply.source == "assumed"
    assert found == foreseen(card=replace(without, host=HOST, sources={**sources, "host": "assumed"}))
    to = known()
    somewhere = {name: replace(info, converted=None) for name, info in to.components.items()}
    found = foreseen(to=replace(to, components=somewhere), card=measured)
    assert (found.load.source, found.apply.source) == ("assumed", "predicted"), "in which dtype files are"


@pytest.mark.parametrize("name", ["flux", "sdxl", "wan22"])
def test_the_forecast_of_a_call_has_both(name: str) -> None:
    found = planner.compile(f"plans/{name}.plan.yaml", card="h200")
    assert found.start is not None
    assert found.forecast is not None
    assert found.forecast.load == found.start.load.seconds
    assert found.forecast.apply == found.start.apply.seconds
    assert found.start.registered == sum(size or 0 for size in found.schedule.host.values())


def test_applying_flux_on_an_h200_is_as_it_was_measured() -> None:
    found = planner.compile("plans/flux.plan.yaml", card="h200").start
    assert found is not None
    assert found.apply.seconds is not None
    assert 1.4 <= found.apply.seconds <= 2.2


def test_nothing_is_said_without_rates() -> None:
    assert planner.compile("plans/flux.plan.yaml", card="24GiB").start is None
