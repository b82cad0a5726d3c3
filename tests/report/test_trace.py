"""A trace, read as Perfetto does, holds the figures of the report: peaks in counters, seconds in slices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.api import profile
from planner.cards.shipped import card_at
from planner.cli.main import run
from planner.cli.plots import chart_of
from planner.predict.forecast import Forecast
from planner.report.plot.chart import Chart
from planner.schedule.card import imagined_as
from planner.schedule.fit import gib

CARD = "rtx-4090"
CLASSES = {
    "tiny-flux": ("FluxPipeline", "transformer"),
    "tiny-sdxl": ("StableDiffusionXLPipeline", "unet"),
    "tiny-wan": ("WanPipeline", "transformer"),
}
OUT = {"tiny-flux": "o.png", "tiny-sdxl": "o.png", "tiny-wan": "o.mp4"}
RUN = "{prompt: a cat, num_inference_steps: 3, height: 64, width: 64, seed: 3"
EACH = [
    pytest.param(name, policy, marks=[] if (name, policy) == ("tiny-flux", "stream") else [pytest.mark.wide])
    for name in CLASSES
    for policy in ("offload", "stream", "resident")
]


@dataclass
class Process:
    """By the rules of the format: a counter holds from ``ts`` until its next event; a slice lies from ``ts``
    for ``dur``, and those of one thread do not overlap but by nesting."""

    name: str = ""
    threads: dict[int, str] = field(default_factory=dict)
    counters: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)

    def of(self, thread: str) -> list[dict[str, Any]]:
        return [one for one in self.slices if self.threads[one["tid"]] == thread]

    def at(self, counter: str, moment: int) -> int:
        return [value for since, value in self.counters[counter] if since <= moment][-1]

    def most(self, counter: str) -> int:
        return max(value for _, value in self.counters[counter])


def read(path: Path) -> dict[str, Process]:
    """By name, with everything that the format asks of an event."""
    found: dict[int, Process] = {}
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    for event in events:
        process = found.setdefault(event["pid"], Process())
        match event["ph"]:
            case "M" if event["name"] == "process_name":
                assert not process.name
                process.name = event["args"]["name"]
            case "M" if event["name"] == "thread_name":
                assert event["tid"] not in process.threads
                process.threads[event["tid"]] = event["args"]["name"]
            case "M":
                assert event["name"] == "process_sort_index"
            case "C":
                for series, value in event["args"].items():
                    assert isinstance(value, int)
                    assert value >= 0
                    process.counters.setdefault(f"{event['name']}.{series}", []).append((event["ts"], value))
            case "X":
                assert isinstance(event["ts"], int)
                assert event["dur"] >= 0 <= event["ts"]
                assert event["tid"] in process.threads  # named before its slices, or Perfetto shows a number
                process.slices.append(event)
            case other:
                raise AssertionError(other)
    for process in found.values():
        for values in process.counters.values():
            moments = [at for at, _ in values]
            assert moments == sorted({*moments})
        for thread in process.threads.values():
            lane = sorted(process.of(thread), key=lambda one: one["ts"])
            assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in pairwise(lane))
    assert len({process.name for process in found.values()}) == len(found)
    return {process.name: process for process in found.values()}


def holds(process: Process, run: Forecast) -> None:
    """Counters against the peaks of ``run``, slices against its seconds and bytes."""
    device = {key: process.most(f"device.{key}") for key in ("driver", "reserved", "allocated", "weights")}
    assert device["driver"] == run.peak
    assert device["driver"] >= device["reserved"] >= device["allocated"] >= device["weights"] > 0
    assert device["weights"] == max(sample.weights for sample in run.samples)
    assert device["allocated"] == max(sample.weights + sample.allocated for sample in run.samples)
    copies = process.of("copy") if "copy" in process.threads.values() else []
    assert sum(one["args"]["bytes"] for one in copies) == sum(
        i.bytes for i in run.intervals if i.lane == "copy"
    )
    ends = [one["ts"] + one["dur"] for one in process.slices]
    assert max(ends) <= round(run.seconds * 1e6) + 1
    spent: dict[tuple[str, str], float] = {}
    for one in process.of("compute"):
        key = one["args"]["stage"], one["args"]["component"]
        spent[key] = spent.get(key, 0.0) + one["dur"] / 1e6
    told: dict[tuple[str, str], tuple[float, int]] = {}
    for use in run.uses:
        seconds, times = told.get((use.stage, use.component), (0.0, 0))
        told[use.stage, use.component] = seconds + use.seconds, times + use.times
    assert spent.keys() == told.keys()
    for key, (seconds, times) in told.items():
        assert spent[key] == pytest.approx(seconds, abs=1e-6 * times), key
    computing = process.of("compute")
    for band in process.of("stages"):
        inside = [one for one in computing if band["ts"] <= one["ts"] < band["ts"] + max(1, band["dur"])]
        assert {one["args"]["stage"] for one in inside} == {band["name"]}
    assert sum(band["dur"] for band in process.of("stages")) <= run.seconds * 1e6 + 1


def plan(here: Path, name: str, policy: str) -> None:
    cls, large = CLASSES[name]
    frames = ", num_frames: 5" if name == "tiny-wan" else ""
    text = f"version: 1\npipeline: {{class: {cls}, source: 'builtin:{name}'}}\n"
    text += f"components: {{{large}: {{policy: {policy}}}}}\nrun: {RUN}{frames}}}\n"
    (here / "x.plan.yaml").write_text(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "policy"), EACH)
def test_a_forecast(here: Path, name: str, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan(here, name, policy)
    assert run(["explain", "x.plan.yaml", "--card", CARD, "--trace", "x.json"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    foreseen = forecast()
    assert f"{gib(foreseen.peak)} at most by the driver's count" in shown
    assert f"{foreseen.seconds:.3f} s a call" in shown
    traced = read(here / "x.json")
    assert [*traced] == ["predicted"]
    holds(traced["predicted"], foreseen)
    for use in traced["predicted"].of("compute"):  # in which its peak may be anywhere
        seen = {
            traced["predicted"].at("device.allocated", use["ts"] + use["dur"] * n // 8) for n in range(1, 8)
        }
        assert len(seen) == 1
    copies = traced["predicted"].of("copy") if foreseen.moved else []
    assert sum(one["args"]["bytes"] for one in copies) == foreseen.moved


def forecast() -> Forecast:
    """Of the plan that is here."""
    card = imagined_as(card_at(CARD))
    assert card.data is not None
    made = planner.load("x.plan.yaml")
    found = planner.compile(made, card=card, call=profile(made, kernels=card.data.kernels)).forecast
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "policy"), EACH)
def test_a_run_beside_its_forecast(
    here: Path, name: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual accelerator has no forecast: it is put beside the run as that of a card is."""
    plan(here, name, policy)
    charts: list[Chart] = []
    foreseen = forecast()

    def beside(*arguments: Any) -> Chart:
        charts.append(replace(chart_of(*arguments), predicted=foreseen))
        return charts[-1]

    monkeypatch.setattr("planner.cli.ran.chart_of", beside)
    words = ["apply", "x.plan.yaml", "--simulate", "--out", OUT[name]]
    assert run([*words, "--trace", "x.json", "--report", "r.json"]) == 0
    traced = read(here / "x.json")
    assert [*traced] == ["predicted", "measured"]
    measured = charts[-1].measured
    assert measured is not None
    holds(traced["predicted"], foreseen)
    holds(traced["measured"], measured)
    report: Mapping[str, Any] = json.loads((here / "r.json").read_text(encoding="utf-8"))
    told, real = report["measured"], traced["measured"]
    assert real.most("device.weights") == told["peak_weights"]
    assert real.most("device.allocated") == told["peak_allocated"]
    assert real.most("device.driver") == told["peak_reserved"] or told["peak_reserved"] is None
    copies = real.of("copy") if "copy" in real.threads.values() else []
    assert sum(one["args"]["bytes"] for one in copies) == told["moved"]
    stages = dict.fromkeys(one["name"] for one in real.of("stages"))
    assert [*stages] == [*told["seconds"]]
    assert {stage for stage, _ in by_stage(traced["predicted"])} == {*stages}


def by_stage(process: Process) -> list[tuple[str, int]]:
    return [(one["name"], one["dur"]) for one in process.of("stages")]
