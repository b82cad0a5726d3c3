"""A call over time as a page, a picture and a trace."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from forecasts import forecast
from hypothesis import given
from hypothesis import strategies as st

from planner.diagnostics.diagnostic import PlanError
from planner.predict.forecast import Forecast, Sample
from planner.report.plot.chart import DEVICE, HOST, LEVELS, Band, Chart, bands_of, end_of, peak_within
from planner.report.plot.page import page
from planner.report.plot.trace import trace
from planner.report.plot.write import plot_findings, plotted, traced

BOTH = Chart(
    plan="flux",
    pipeline="FluxPipeline",
    device="sim:0",
    budget=8 << 30,
    predicted=forecast(),
    measured=forecast(slower=1.1, more=1 << 26, source="measured"),
)
EMPTY = Forecast(uses=(), intervals=(), samples=(), peak=0, seconds=0.0, first=0.0, source="not known")


def events(chart: Chart) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(trace(chart))["traceEvents"]
    return found


def test_counters_are_the_samples() -> None:
    for pid, (_, run) in enumerate(BOTH.runs, 1):
        for counter, levels in (("device", DEVICE), ("host", HOST)):
            said = [
                (e["ts"], e["args"])
                for e in events(BOTH)
                if e["ph"] == "C" and e["pid"] == pid and e["name"] == counter
            ]
            assert said == [(s.at, {v.name: v.bytes(s) for v in levels}) for s in run.samples]


def test_lanes_are_threads_of_two_processes() -> None:
    found = events(BOTH)
    processes = {e["pid"]: e["args"]["name"] for e in found if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in found if e["name"] == "thread_name"}
    assert processes == {1: "predicted", 2: "measured"}
    assert sorted(threads.values()) == sorted(["stages", "compute", "copy"] * 2)
    for pid, (_, run) in enumerate(BOTH.runs, 1):
        spans = [
            (threads[e["pid"], e["tid"]], e["name"], e["ts"], e["ts"] + e["dur"], e["args"]["bytes"])
            for e in found
            if e["ph"] == "X" and e["pid"] == pid and threads[e["pid"], e["tid"]] != "stages"
        ]
        assert sorted(spans) == sorted((i.lane, i.name, i.start, i.end, i.bytes) for i in run.intervals)


def test_a_page_says_what_loading_and_applying_take() -> None:
    run = replace(forecast(), load=2.514, apply=None)
    text = page(replace(BOTH, predicted=run, measured=replace(forecast(), load=3.0, apply=0.25)))
    summary = text[text.index('aria-label="Summary"') :].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", summary)]
    assert [row[-3:-1] for row in rows] == [["load", "apply"], ["2.51", "not known"], ["3.00", "0.25"]]


def test_a_trace_is_the_same_bytes_again() -> None:
    assert trace(BOTH) == trace(BOTH)


def test_stages_follow_each_other() -> None:
    bands = bands_of(forecast())
    assert [band.stage for band in bands] == ["prompt", "denoise", "decode"]
    assert all(a.end <= b.start for a, b in pairwise(bands))
    assert bands[-1] == Band("decode", 1_530_000, 1_670_000)
    assert end_of(forecast()) == 1_670_000


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), min_size=1, max_size=9), st.data())
def test_a_peak_is_the_most_of_all_moments(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    at, samples = 0, []
    for wait, size in steps:
        samples.append(Sample(at=at, weights=size, allocated=0, reserved=0, driver=size))
        at += wait
    start = data.draw(st.integers(0, at))
    end = data.draw(st.integers(start, at + 5))
    run = replace(EMPTY, samples=tuple(samples))
    held = {
        t: s.weights
        for s, n in zip(samples, [*samples[1:], None], strict=True)
        for t in range(s.at, n.at if n else at + 6)
    }
    assert peak_within(run, start, end, DEVICE[-1]) == max(held[t] for t in range(start, max(end, start + 1)))


def test_a_page_has_the_samples_and_asks_no_network() -> None:
    text = page(BOTH)
    assert text == page(BOTH)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    for run, (name, there) in zip(data["runs"], BOTH.runs, strict=True):
        assert run["name"] == name
        assert run["samples"] == [[s.at, *(v.bytes(s) for v in LEVELS)] for s in there.samples]
        assert len(run["intervals"]) == len(there.intervals)
    links = re.findall(r"https?://[^\s\"'<>]+", text)
    assert links == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert "default-src 'none'" in text
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", text)


def test_names_of_a_plan_end_no_element() -> None:
    evil = "</script><script>alert(1)</script>&\"'$plan"
    run = forecast()
    named = replace(run, notes=(evil,))
    text = page(Chart(plan=evil, pipeline=evil, device=evil, predicted=named))
    assert "<script>alert" not in text
    assert text.count("</script>") == 2


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_picture(suffix: str) -> None:
    pytest.importorskip("matplotlib")
    made = plotted(BOTH, Path(f"x.{suffix}"))
    assert made == plotted(BOTH, Path(f"x.{suffix}"))
    if suffix == "png":
        assert made.startswith(b"\x89PNG")
        return
    said = {text.text for text in ET.fromstring(made).iter("{http://www.w3.org/2000/svg}text")}
    assert {"prompt", "denoise", "decode", "copy, measured", "budget 8.00 GiB", "driver", "pinned"} <= said


def test_what_has_nothing_in_it_is_drawn_empty() -> None:
    chart = Chart(plan="x", pipeline="y", predicted=EMPTY)
    assert "<svg" not in page(chart)
    assert [e["ph"] for e in events(chart)] == ["M", "M"]
    pytest.importorskip("matplotlib")
    assert plotted(chart, Path("x.svg"))


def test_a_name_that_says_no_format() -> None:
    with pytest.raises(PlanError) as caught:
        plotted(BOTH, Path("x.pdf"))
    assert [d.code.name for d in caught.value.diagnostics] == ["plot-unknown"]
    with pytest.raises(PlanError, match=r"\.json"):
        traced(BOTH, Path("x.html"))
    assert [*plot_findings(Path("x.HTML"), Path("x.json"))] == []


def test_a_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (found,) = plot_findings(Path("x.png"), None)
    assert found.code.name == "package-missing"
    assert "offload-planner[plot]" in (found.hint or "")
    assert plotted(BOTH, Path("x.html"))
