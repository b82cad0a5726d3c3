"""Which file a chart goes to by its name, and what is wrong with that before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_machine import PACKAGE_MISSING
from planner.diagnostics.table.p9_output import PLOT_UNKNOWN
from planner.report.plot.chart import Chart
from planner.report.plot.page import page
from planner.report.plot.trace import trace

INSTALL = "pip install 'offload-planner[plot]'"
PLOTS = (".html", ".svg", ".png")
TRACES = (".json",)


def plot_findings(plot: Path | None, trace: Path | None) -> Iterator[Diagnostic]:
    """Of ``--plot`` and ``--trace``: names that say no format (P943), and a picture where there is no
    matplotlib (P901)."""
    for option, path, known in (("--plot", plot, PLOTS), ("--trace", trace, TRACES)):
        if path is not None and path.suffix.lower() not in known:
            expected = ", ".join(known)
            yield finding(PLOT_UNKNOWN, f'{option} "{path}" says no format: expected a name in {expected}')
    if plot is not None and plot.suffix.lower() in (".svg", ".png") and find_spec("matplotlib") is None:
        said = f'package "matplotlib" is missing: a {plot.suffix} needs it'
        yield finding(PACKAGE_MISSING, said, hint=f"{INSTALL}, or a name in .html")


def plotted(chart: Chart, path: Path) -> bytes:
    """The chart in the format of ``path``. Raises PlanError as ``plot_findings`` has it."""
    if found := [*plot_findings(path, None)]:
        raise PlanError(found)
    suffix = path.suffix.lower()
    if suffix == ".html":
        return encoded(page(chart))
    from planner.report.plot.picture import picture

    return picture(chart, "svg" if suffix == ".svg" else "png")


def traced(chart: Chart, path: Path) -> bytes:
    """The chart as a trace. Raises PlanError as ``plot_findings`` has it."""
    if found := [*plot_findings(None, path)]:
        raise PlanError(found)
    return encoded(trace(chart))


def encoded(text: str) -> bytes:
    """UTF-8; what is no character of it, from a name that a file system gave, as an escape."""
    return text.encode("utf-8", "backslashreplace")
