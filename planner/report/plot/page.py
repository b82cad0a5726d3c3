"""One page with everything in it: it opens from a disk, asks no network, and reads without a script too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from math import isnan
from string import Template
from typing import Any

from planner.predict.forecast import Forecast
from planner.report.plot.chart import DEVICE, LEVELS, Chart, bands_of, end_of, lanes_of, peak_within
from planner.report.units import Unit, unit_for

Rows = Sequence[tuple[str, ...]]

_ALLOCATED = next(level for level in DEVICE if level.key == "allocated")
_DRIVER = next(level for level in DEVICE if level.key == "driver")


def page(chart: Chart) -> str:
    """HTML; the same chart gives the same bytes."""
    unit = unit_of(chart)
    notes = {note: None for _, run in chart.runs for note in run.notes}
    parts = {
        "title": escape(f"{chart.plan}: memory and time"),
        "plan": escape(chart.plan),
        "about": escape(" · ".join(x for x in (chart.pipeline, chart.device, _budget(chart)) if x)),
        "summary": _summary(chart, unit),
        "tables": "\n".join(_tables(chart, unit)),
        "notes": _notes(notes),
        "data": _embedded(_data(chart, unit)),
        "css": _part("page.css"),
        "js": _part("page.js"),
    }
    return Template(_part("page.html")).substitute(parts)


def unit_of(chart: Chart) -> Unit:
    """Of the chart's largest size, the budget's where it is near to them."""
    return unit_for(
        [level.bytes(s) for _, run in chart.runs for s in run.samples for level in LEVELS] or [None]
    )


def _data(chart: Chart, unit: Unit) -> dict[str, Any]:
    levels = [
        {"key": level.key, "name": level.name, "on": "device" if level in DEVICE else "host", "index": n}
        for n, level in enumerate(LEVELS, 1)
    ]
    return {
        "budget": chart.budget,
        "budgetText": _budget(chart),
        "unit": {"name": unit.name, "size": unit.size},
        "levels": levels,
        "runs": [_run(name, run) for name, run in chart.runs],
    }


def _run(name: str, run: Forecast) -> dict[str, Any]:
    intervals = sorted(run.intervals, key=lambda i: (i.start, i.end, i.lane, i.name))
    return {
        "name": name,
        "end": end_of(run),
        "lanes": lanes_of(run),
        "stages": [[band.stage, band.start, band.end] for band in bands_of(run)],
        "samples": [[s.at, *(level.bytes(s) for level in LEVELS)] for s in run.samples],
        "intervals": [[i.lane, i.name, i.stage, i.component, i.start, i.end, i.bytes] for i in intervals],
    }


def _embedded(data: Any) -> str:
    """JSON that ends no script element, whatever names a plan has."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _budget(chart: Chart) -> str:
    return "" if chart.budget is None else f"budget {unit_for([chart.budget]).text(chart.budget)}"


def _summary(chart: Chart, unit: Unit) -> str:
    rows: Rows = [
        (
            *(name, unit.text(run.peak), f"{run.seconds:.2f}", f"{run.first:.2f}"),
            *(_seconds(run.load), _seconds(run.apply), run.source),
        )
        for name, run in chart.runs
    ]
    return _table("", ("", "peak", "seconds", "first call", "load", "apply", "numbers"), rows)


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"


def _tables(chart: Chart, unit: Unit) -> Iterator[str]:
    for name, run in chart.runs:
        said = f"Stages, {name}"
        heads = ("stage", "from, s", "seconds", f"allocated {unit.name}", f"driver {unit.name}")
        yield _folded(said, _table(said, heads, _stages(run, unit)))
        said = f"Uses, {name}"
        names = ("stage", "component", "entry", "times", f"allocated {unit.name}", f"reserved {unit.name}")
        if run.uses:
            yield _folded(
                said, _table(said, (*names, "seconds", "waits", "numbers"), _uses(run, unit), left=3)
            )


def _stages(run: Forecast, unit: Unit) -> Rows:
    return [
        (
            band.stage,
            f"{band.start / 1e6:.3f}",
            f"{(band.end - band.start) / 1e6:.3f}",
            unit.number(peak_within(run, band.start, band.end, _ALLOCATED)),
            unit.number(peak_within(run, band.start, band.end, _DRIVER)),
        )
        for band in bands_of(run)
    ]


def _uses(run: Forecast, unit: Unit) -> Rows:
    return [
        (
            *(use.stage, use.component, use.entry, str(use.times)),
            *(unit.number(use.allocated), unit.number(use.reserved)),
            *(f"{use.seconds:.3f}", _known(use.waits), use.source),
        )
        for use in run.uses
    ]


def _known(seconds: float) -> str:
    """Nothing for what was not measured."""
    return "" if isnan(seconds) else f"{seconds:.3f}"


def _table(caption: str, heads: tuple[str, ...], rows: Rows, left: int = 1) -> str:
    def cell(kind: str, n: int, text: str) -> str:
        side = ' class="l"' if n < left else ""
        scope = ' scope="col"' if kind == "head" else ' scope="row"' if n == 0 else ""
        tag = "th" if scope else "td"
        return f"<{tag}{side}{scope}>{escape(text)}</{tag}>"

    head = "".join(cell("head", n, text) for n, text in enumerate(heads))
    body = "\n".join(
        f"<tr>{''.join(cell('cell', n, text) for n, text in enumerate(row))}</tr>" for row in rows
    )
    label = f' aria-label="{escape(caption)}"' if caption else ' aria-label="Summary"'
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="scroll"><table{label}>\n{inside}</table></div>'


def _folded(name: str, inside: str) -> str:
    return f"<details><summary>{escape(name)}</summary>\n{inside}\n</details>"


def _notes(notes: dict[str, None]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<h2>Notes</h2>\n<ul class="notes">{items}</ul>'
