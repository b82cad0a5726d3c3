"""What ``plan apply`` tells and keeps of a call that ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.cli.asked import Asked
from planner.cli.plots import chart_of, drawn
from planner.cli.signals import Terminated
from planner.cli.terminal import log, put, show
from planner.cli.traced import Foretold
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p0_tool import OVER_BUDGET
from planner.diagnostics.table.p9_card import NOT_CALIBRATED
from planner.diagnostics.table.p9_output import OUTPUT_ELSEWHERE
from planner.plan.model import Plan
from planner.predict.forecast import Forecast
from planner.predict.start import Start
from planner.report.build import report_of
from planner.report.model import DeviceInfo, Measured, Report
from planner.report.render import measured_table, wrote_line
from planner.report.uses import calibration_words, forecast_words
from planner.schedule.card import Room
from planner.schedule.fit import fitting, gib
from planner.stages.results import Compiled

INTERRUPTED = 130
NOTHING_RAN = Measured(peak_weights=0, moved=0, seconds={}, total=0.0, ended="interrupted")
"""Of a run that was stopped while its pipeline was loaded."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is needed to tell of a call that ended. ``start``: what was predicted of loading and applying
    before it; ``took``: seconds of both, None of one that was not timed; ``over_time``: the call as it
    went."""

    plan: Plan
    compiled: Compiled
    info: DeviceInfo
    room: Room
    seed: int
    asked: Asked
    start: Start | None = None
    took: tuple[float | None, float | None] = (None, None)
    over_time: Forecast | None = None

    def finished(self, result: Any, measured: Measured, sample_rate: int) -> list[Diagnostic]:
        """Saves the output, then tells; returns what went otherwise than it was to."""
        from planner.loading.outputs import save_or_keep

        paths, found = save_or_keep(
            result,
            self.plan,
            self.asked.out,
            seed=self.seed,
            sample_rate=sample_rate,
            force=self.asked.force,
        )
        report = self._report(measured, paths)
        put(
            "",
            measured_table(report),
            *self._beside(measured),
            *([wrote_line(paths, self.seed)] if paths else []),
        )
        return [*found, *self._write(report), *_over_budget(self.plan, report)]

    def broke_off(self, measured: Measured | None, raised: BaseException) -> int:
        """Tells what ran, and goes on as the call ended: its findings, or the code of an interrupt."""
        found: list[Diagnostic] = []
        if measured is not None:
            report = self._report(measured, [])
            put("", measured_table(report))
            found = self._write(report)
        if not isinstance(raised, KeyboardInterrupt):
            if found and isinstance(raised, PlanError):
                raise PlanError([*raised.diagnostics, *found], raised.sources) from raised.__cause__
            raise raised
        show(found, self.plan.document.sources)
        log(f"{'terminated' if isinstance(raised, Terminated) else 'interrupted'}: no output was written")
        return INTERRUPTED

    def _beside(self, measured: Measured) -> list[str]:
        """What was predicted, once more beside what was measured."""
        call = self.compiled.forecast
        return [] if call is None else [f"  {forecast_words(call)}; it took {measured.total:.2f} s"]

    def _report(self, measured: Measured, paths: list[Path]) -> Report:
        return report_of(
            self.compiled.schedule,
            self.plan,
            replace(measured, load=self.took[0], apply=self.took[1]),
            self.info,
            budget=self.room,
            start=self.start,
            seed=self.seed,
            outputs=paths,
        )

    def _write(self, report: Report) -> list[Diagnostic]:
        """The report, the plot and the trace where they were to go; else as near as can be, and a finding
        that says where."""
        from planner.loading.keep import write_or_keep

        found = []
        for what, asked, made in self._files(report):
            path, why = write_or_keep(asked, made, force=self.asked.force)
            put(wrote_line([path], None))
            if why:
                found.append(finding(OUTPUT_ELSEWHERE, f'{why}; the {what} was kept as "{path}"'))
        return found

    def _files(self, report: Report) -> Iterator[tuple[str, Path, str | bytes]]:
        if self.asked.report is not None:
            yield "report", self.asked.report, report.to_json()
        if self.over_time is not None:
            ran = replace(self.over_time, load=self.took[0], apply=self.took[1])
            chart = chart_of(self.compiled, self.info, self.room.budget, ran)
            for path, made in drawn(chart, self.asked.plot, self.asked.trace):
                yield "plot" if path == self.asked.plot else "trace", path, made


def keep_calibration(plan: Plan, told: Foretold, measured: Forecast) -> list[Diagnostic]:
    """Keeps what was measured; says where, or why not."""
    from planner.loading.calibrations import calibration_of, keep

    if told.plain is None:
        if any(found.code is NOT_CALIBRATED for found in told.found):
            return []
        return [finding(NOT_CALIBRATED, "nothing is kept of this run: a call of another size was traced")]
    calibration = calibration_of(measured, told.plain, told.card)
    try:
        path = keep(plan, told.plain, told.card, calibration)
    except OSError as error:
        return [finding(NOT_CALIBRATED, f"what was measured cannot be kept: {error}")]
    put(calibration_words(calibration, path))
    return []


def _over_budget(plan: Plan, report: Report) -> list[Diagnostic]:
    """The run held more than the plan's budget: it says so, after the output is saved."""
    asked = plan.budget.vram
    if asked is None or report.within is not False:
        return []
    said = f"the run held {gib(report.held)}, and the budget is {gib(report.budget.budget or 0)}"
    hint = f"--set budget.vram={fitting(report.held)} would have been enough"
    return [finding(OVER_BUDGET, said, span=asked.span, pointer="/budget/vram", hint=hint)]
