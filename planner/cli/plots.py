"""``--plot`` and ``--trace``: what a call does over time, as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from planner.cli.output import Output
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT
from planner.loading.destination import Destination
from planner.plan.model import Plan
from planner.predict.forecast import Forecast
from planner.report.model import DeviceInfo
from planner.report.plot.chart import Chart
from planner.report.plot.write import plot_findings, plotted, traced
from planner.stages.results import Compiled

plot_option = click.option(
    "--plot",
    type=Output(),
    metavar="FILE",
    help="Memory and time of the call: a page (.html), or a picture (.svg, .png).",
)
trace_option = click.option(
    "--trace",
    type=Output(),
    metavar="FILE",
    help="The call in Chrome's trace format (.json), for ui.perfetto.dev.",
)


def destination_findings(
    plan: Plan, plot: Path | None, trace: Path | None, others: dict[str, Path | None], *, force: bool
) -> Iterator[Diagnostic]:
    """What is wrong with the names, before anything is done; ``others``: paths of other options, which must
    be others."""
    yield from plot_findings(plot, trace)
    taken = {path.absolute(): option for option, path in others.items() if path is not None}
    for option, path in (("--plot", plot), ("--trace", trace)):
        if path is None:
            continue
        yield from Destination(option, path, plan, force).faults()
        if (other := taken.setdefault(path.absolute(), option)) != option:
            yield finding(BAD_OUTPUT, f'{other} and {option} are both "{path}"')


def device_words(info: DeviceInfo) -> str:
    """``cuda:0 NVIDIA H200``."""
    return " ".join(x for x in (info.name, info.kind) if x)


def chart_of(
    compiled: Compiled, info: DeviceInfo, budget: int | None, measured: Forecast | None = None
) -> Chart:
    """What was foreseen of the call and, where there is one, the call as it went."""
    return Chart(
        plan=compiled.plan.name,
        pipeline=compiled.schedule.pipeline,
        device=device_words(info),
        budget=budget,
        predicted=compiled.forecast,
        measured=measured,
    )


def drawn(chart: Chart, plot: Path | None, trace: Path | None) -> Iterator[tuple[Path, bytes]]:
    """Each file that is asked for, with what belongs in it."""
    if plot is not None:
        yield plot, plotted(chart, plot)
    if trace is not None:
        yield trace, traced(chart, trace)
