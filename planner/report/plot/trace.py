"""A call in Chrome's trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Format: "Trace Event Format" of the Chromium project. Predicted and measured are two processes, lanes are
threads, memory is counters, in bytes; times are microseconds from the start of the call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from planner.predict.forecast import Forecast
from planner.report.plot.chart import DEVICE, HOST, LANES, Chart, bands_of, intervals_in

STAGES = 1
"""The thread of the stages; lanes come after it."""
COUNTERS = {"device": DEVICE, "host": HOST}


def trace(chart: Chart) -> str:
    """JSON, an event a line; the same chart gives the same bytes."""
    events = (
        event for number, (name, run) in enumerate(chart.runs, 1) for event in _process(number, name, run)
    )
    lines = ",\n".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in events)
    about = {"plan": chart.plan, "pipeline": chart.pipeline, "device": chart.device, "budget": chart.budget}
    head = f'"displayTimeUnit":"ms","otherData":{json.dumps(about, ensure_ascii=False)}'
    return f'{{{head},"traceEvents":[\n{lines}\n]}}\n'


def _process(pid: int, name: str, run: Forecast) -> Iterator[dict[str, Any]]:
    yield _named("process_name", pid, 0, name)
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    bands = bands_of(run)
    if bands:
        yield _named("thread_name", pid, STAGES, "stages")
    for band in bands:
        yield _span(pid, STAGES, band.stage, band.start, band.end, {})
    for tid, lane in enumerate(LANES, STAGES + 1):
        if found := intervals_in(run, lane):
            yield _named("thread_name", pid, tid, lane)
        for i in found:
            about = {"stage": i.stage, "component": i.component, "bytes": i.bytes}
            yield _span(pid, tid, i.name, i.start, i.end, about)
    for sample in run.samples:
        for counter, levels in COUNTERS.items():
            values = {level.name: level.bytes(sample) for level in levels}
            yield {"ph": "C", "name": counter, "pid": pid, "tid": 0, "ts": sample.at, "args": values}


def _span(pid: int, tid: int, name: str, start: int, end: int, about: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": start, "dur": end - start, "args": about}


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}
