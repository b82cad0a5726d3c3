"""A chart as a still picture, SVG or PNG, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from planner.predict.forecast import Forecast
from planner.report.plot.chart import (
    DEVICE,
    HOST,
    Chart,
    Level,
    bands_of,
    end_of,
    intervals_in,
    lanes_of,
)
from planner.report.plot.page import unit_of
from planner.report.units import Unit, unit_for

FILLS = {
    "driver": "#e1e5ea",
    "reserved": "#bcc8d6",
    "allocated": "#f2a65a",
    "weights": "#4a86cf",
    "host": "#a9d8c0",
    "pinned": "#3d9a6f",
}
LINES = {
    "driver": "#2a2e33",
    "reserved": "#51647c",
    "allocated": "#8f4600",
    "weights": "#123f7d",
    "host": "#2b6b4c",
    "pinned": "#0b4a2c",
}
LANE_FILLS = {"compute": "#7a68c4", "copy": "#c2618f", "host": "#8a9099"}
BUDGET = "#c1272d"
NEAR = 4
"""A budget of more than so many times what is drawn is said, and not drawn: all else would be flat."""


def picture(chart: Chart, kind: Literal["svg", "png"]) -> bytes:
    """On white, with text as text in an SVG. The same chart gives the same bytes with the same matplotlib.
    Raises ImportError where there is none."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "offload-plans", "font.size": 9}):
        lanes = [(name, run, lane) for name, run in chart.runs for lane in lanes_of(run)]
        figure = Figure(figsize=(11, 5.4 + 0.25 * len(lanes)), layout="constrained")
        device, rows, host = figure.subplots(
            3, 1, sharex=True, height_ratios=[4, 0.2 + 0.32 * len(lanes), 1.3]
        )
        unit = unit_of(chart)
        _memory(device, chart, DEVICE, unit)
        _budget(device, chart, unit)
        _lanes(rows, lanes)
        _memory(host, chart, HOST, unit)
        _stages(device, next(chart.runs)[1])
        device.set_title(
            " · ".join(x for x in (chart.plan, chart.pipeline, chart.device) if x), loc="left", pad=18
        )
        host.set_xlabel("seconds" + (" (areas: predicted, lines: measured)" if _both(chart) else ""))
        host.set_xlim(0, max(end_of(run) for _, run in chart.runs) / 1e6)
        out = io.BytesIO()
        about = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, metadata=about)
    return out.getvalue()


def _both(chart: Chart) -> bool:
    return chart.predicted is not None and chart.measured is not None


def _memory(axes: Any, chart: Chart, levels: Sequence[Level], unit: Unit) -> None:
    for number, (_, run) in enumerate(chart.runs):
        if not run.samples:
            continue
        times = [sample.at / 1e6 for sample in run.samples] + [end_of(run) / 1e6]
        for level in levels:
            values = [level.bytes(sample) / unit.size for sample in run.samples]
            values.append(values[-1])
            if number == 0:
                axes.fill_between(
                    times, values, step="post", color=FILLS[level.key], linewidth=0, label=level.name
                )
            else:
                axes.step(times, values, where="post", color=LINES[level.key], linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit.name)
    axes.grid(alpha=0.25)
    if any(run.samples for _, run in chart.runs):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _budget(axes: Any, chart: Chart, unit: Unit) -> None:
    if chart.budget is None:
        return
    most = max((level.bytes(s) for _, run in chart.runs for s in run.samples for level in DEVICE), default=0)
    said = f"budget {unit_for([chart.budget]).text(chart.budget)}"
    if chart.budget > NEAR * most:
        axes.text(0.995, 0.97, f"{said}, above", color=BUDGET, ha="right", va="top", transform=axes.transAxes)
        return
    axes.axhline(chart.budget / unit.size, color=BUDGET, linestyle="--", linewidth=1.2)
    top = max(most, chart.budget) / unit.size * 1.12
    axes.set_ylim(0, top)
    axes.text(
        0.995, chart.budget / unit.size / top + 0.01, said, color=BUDGET, ha="right", transform=axes.transAxes
    )


def _stages(axes: Any, run: Forecast) -> None:
    where = axes.get_xaxis_transform()
    for number, band in enumerate(bands_of(run)):
        start, end = band.start / 1e6, band.end / 1e6
        if number % 2 == 0:
            axes.axvspan(start, end, color="#1c1e21", alpha=0.05, linewidth=0, zorder=-1)
        name = band.stage.replace("$", r"\$")
        axes.text(start, 1.015, name, transform=where, weight="bold", clip_on=False)


def _lanes(axes: Any, lanes: Sequence[tuple[str, Forecast, str]]) -> None:
    two = len({name for name, _, _ in lanes}) > 1
    for number, (_, run, lane) in enumerate(lanes):
        spans = [(i.start / 1e6, max(i.end - i.start, 1) / 1e6) for i in intervals_in(run, lane)]
        axes.broken_barh(
            spans, (number - 0.4, 0.8), facecolors=LANE_FILLS[lane], edgecolor="white", linewidth=0.3
        )
    axes.set_yticks(range(len(lanes)), [f"{lane}, {name}" if two else lane for name, _, lane in lanes])
    axes.set_ylim(max(len(lanes), 1) - 0.5, -0.5)
    axes.grid(alpha=0.25, axis="x")
