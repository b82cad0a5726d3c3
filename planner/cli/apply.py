"""``plan apply``: check, say what will happen, load, run, save, and say what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.api import attach, compile, device_for, load
from planner.cli.card import card_option, info_of
from planner.cli.code import catalogue_option, from_option
from planner.cli.complete import plan_files
from planner.cli.locks import kept_to, locked_option
from planner.cli.plots import chart_of, destination_findings, drawn, plot_option, trace_option
from planner.cli.signals import Terminated, terminable
from planner.cli.source import source_of
from planner.cli.terminal import log, overrides_option, put, show
from planner.cli.traced import Foretold, foretold, untraced
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, errors, finding
from planner.diagnostics.table.p0_tool import OVER_BUDGET
from planner.diagnostics.table.p9_card import NOT_CALIBRATED
from planner.diagnostics.table.p9_output import OUTPUT_ELSEWHERE
from planner.plan.model import Plan
from planner.plan.run import check_run
from planner.predict.forecast import Forecast
from planner.report.build import report_of
from planner.report.model import DeviceInfo, Measured, Report
from planner.report.render import measured_table, picture, wrote_line
from planner.report.uses import calibration_words, forecast_words
from planner.schedule.card import Card, Room
from planner.schedule.fit import fitting, gib
from planner.stages.results import Compiled
from planner.target import catalogue

if TYPE_CHECKING:
    from planner.device.protocol import Device

INTERRUPTED = 130
NOTHING_RAN = Measured(peak_weights=0, moved=0, seconds={}, total=0.0, ended="interrupted")
"""Of a run that was stopped while its pipeline was loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The command line."""

    out: Path | None
    report: Path | None
    plot: Path | None
    trace: Path | None
    force: bool
    calibrate: bool
    simulate: bool
    code: str | None
    catalogues: tuple[Path, ...]
    allow_pickle: bool
    trust_remote_code: bool


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option("--out", type=click.Path(path_type=Path), help="Where the output goes: a file, or a folder.")
@click.option("--simulate", is_flag=True, help="On a virtual accelerator: no GPU needed, every mistake seen.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; load nothing.")
@card_option
@click.option("--report", type=click.Path(path_type=Path), help="Write the report as JSON.")
@plot_option
@trace_option
@click.option("--force", is_flag=True, help="A file may be written over, but for what is read.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Keep in the user's cache what this run measures of each use: the next prediction goes by it.",
)
@from_option
@catalogue_option
@click.option("--allow-pickle", is_flag=True, help="Weights in pickle files may be read: they can run code.")
@click.option("--trust-remote-code", is_flag=True, help="Code that comes with a hub id may be run.")
@locked_option
@overrides_option
def apply_command(
    file: Path, overrides: tuple[str, ...], locked: bool, dry_run: bool, card: Card | None, **options: Any
) -> int:
    """Run a plan: load its pipeline, apply it, make the output.

    Prints what will be moved before, and promised beside measured after. An interrupt, or SIGTERM, ends it
    with what ran until then, on the screen and in --report.
    """
    if card is not None and not dry_run:
        raise click.UsageError("--card is for --dry-run: a run has the card that is here")
    plan = load(source_of(file), overrides=overrides)
    asked = _Asked(**options)
    if locked:
        code = _Code.of(asked)
        plan = kept_to(plan, code.cls, code.catalogue)
    try:
        if dry_run:
            return _dry_run(plan, asked, card)
        with terminable():
            return _apply(plan, asked)
    except PlanError as error:
        raise PlanError(error.diagnostics, error.sources or plan.document.sources) from error.__cause__


def _dry_run(plan: Plan, asked: _Asked, card: Card | None) -> int:
    code, cls = _Code.of(asked), None
    if card is None:
        from planner.loading.packages import require

        require()
        _, card = _device(plan, simulate=asked.simulate)
        cls = code.cls or (None if code.function else _class(plan))
    told = _foretold(plan, card)
    said = compile(plan, code.shows(plan), card=told.card, catalogue=code.catalogue, call=told.call)
    _check_files(plan, asked, cls)
    _say(said, info_of(card), card.room(plan, said.target.bytes)[0])
    return show([*said.diagnostics, *told.found], plan.document.sources)


@dataclass(slots=True)
class _Code:
    """What ``--from`` led to: a class or a function, imported; and ``made``, what the function returned."""

    spec: str
    cls: type | None
    function: Any
    catalogue: tuple[Any, ...]
    made: Any = None

    @classmethod
    def of(cls, asked: _Asked) -> _Code:
        if asked.code is None:
            return cls("", None, None, asked.catalogues)
        from planner.loading.make import code_at

        found = code_at(asked.code)
        if isinstance(found, type):
            return cls(asked.code, found, None, (found, *asked.catalogues))
        return cls(asked.code, None, found, asked.catalogues)

    def shows(self, plan: Plan) -> Any:
        """What the plan is compiled for before its pipeline is loaded. A function is called first where only
        its pipeline says what the class is."""
        if self.function is None or plan.stages is not None or catalogue.find(plan.pipeline.cls) is not None:
            return self.cls
        return self.pipeline()

    def pipeline(self) -> Any:
        """What the function returns, called once."""
        from planner.loading.make import made_by

        if self.made is None:
            self.made = made_by(self.spec, self.function)
        return self.made


def _apply(plan: Plan, asked: _Asked) -> int:
    from planner.loading.packages import require

    require()
    from planner.loading.call import attempt
    from planner.loading.inputs import call_of
    from planner.loading.outputs import sample_rate_of
    from planner.loading.pipeline import load_pipeline
    from planner.loading.progress import reading
    from planner.virtual.audit import snapshot

    device, card = _device(plan, simulate=asked.simulate)
    code = _Code.of(asked)
    info, told = info_of(card), _foretold(plan, card, always=asked.calibrate)
    call = told.call or (told.plain if card.data is not None else None)
    before = compile(plan, code.shows(plan), card=told.card, catalogue=code.catalogue, call=call)
    room, _ = card.room(plan, before.target.bytes)
    _check_call(before)
    _check_files(plan, asked, code.cls or (None if code.function else _class(plan)))
    known = before.schedule.peak is not None
    if known:
        _say(before, info, room)
    try:
        pipe = (
            code.pipeline()
            if code.function
            else load_pipeline(
                plan,
                cls=code.cls,
                allow_pickle=asked.allow_pickle,
                trust_remote_code=asked.trust_remote_code,
                device_type=device.name.type,
                bar=reading,
            )
        )
        if code.function:
            _check_files(plan, asked, type(pipe))
        arguments = call_of(plan, pipe)
        truth = snapshot(pipe) if asked.simulate else None
        session, compiled = attach(
            plan,
            pipe,
            device,
            loaded_by_us=code.function is None,
            catalogue=code.catalogue,
            call=call,
            data=told.card.data,
        )
    except KeyboardInterrupt as stopped:
        run = _Run(plan, before, info, room, plan.run.get("seed", 0), asked)
        return run.broke_off(NOTHING_RAN, stopped)
    if not known:
        _say(compiled, info, room)
    notes = [*told.found, *(d for d in session.notes if d.severity is not Severity.NOTE)]
    over_time = asked.plot is not None or asked.trace is not None or asked.calibrate
    outcome = attempt(session, plan, pipe, arguments.arguments, truth, over_time=over_time, card=card)
    session.remove()
    run = _Run(plan, compiled, info, room, arguments.seed, asked, outcome.over_time)
    if outcome.raised is not None:
        return run.broke_off(outcome.measured, outcome.raised)
    assert outcome.measured is not None
    found = run.finished(outcome.result, outcome.measured, sample_rate_of(pipe))
    if asked.calibrate and outcome.over_time is not None:
        found += _calibrate(plan, told, outcome.over_time)
    return show([*notes, *outcome.found, *found], plan.document.sources)


@dataclass(frozen=True, slots=True)
class _Run:
    """What is needed to tell of a call that ended."""

    plan: Plan
    compiled: Compiled
    info: DeviceInfo
    room: Room
    seed: int
    asked: _Asked
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
        return [*found, *self._write(report), *_over(self.plan, report)]

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
            measured,
            self.info,
            budget=self.room,
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
            chart = chart_of(self.compiled, self.info, self.room.budget, self.over_time)
            for path, made in drawn(chart, self.asked.plot, self.asked.trace):
                yield "plot" if path == self.asked.plot else "trace", path, made


def _device(plan: Plan, *, simulate: bool) -> tuple[Device, Card]:
    """The device that the plan runs on, and the card that it is to the compiler."""
    from planner.session.machine import card_on, pick_device
    from planner.virtual.device import SimDevice

    device = SimDevice() if simulate else device_for(pick_device(plan))
    return device, card_on(device.name)


def _class(plan: Plan) -> type | None:
    """The plan's class, where it is one of diffusers'; what is wrong with it is said when it is loaded."""
    from planner.loading.builtin import quiet
    from planner.loading.pipeline import class_of

    try:
        with quiet():  # importing a pipeline says which image library it falls back to
            found: type = class_of(plan)
            return found
    except PlanError:
        return None


def _check_call(compiled: Compiled) -> None:
    """That the call can be made: one without ``run`` is, too."""
    plan, call = compiled.plan, compiled.target.call
    found = check_run(plan, call, compiled.target.cls, called=True) if call is not None else []
    if errors(found):
        raise PlanError(found, plan.document.sources)


def _check_files(plan: Plan, asked: _Asked, cls: type | None) -> None:
    from planner.loading.foreseen import output_findings
    from planner.loading.inputs import input_findings

    others = {"--out": asked.out, "--report": asked.report}
    found = [
        *input_findings(plan),
        *output_findings(plan, cls, asked.out, asked.report, force=asked.force),
        *destination_findings(plan, asked.plot, asked.trace, others, force=asked.force),
    ]
    if errors(found):
        raise PlanError(found, plan.document.sources)


def _foretold(plan: Plan, card: Card, *, always: bool = False) -> Foretold:
    """The call of ``run`` on a CUDA card that is here (``always``: on any): what its activations take decides
    what stays. Nothing where it cannot be traced (no configs here, a class that does not let itself); the
    first call learns then."""
    if not (always or card.name.startswith("cuda")):
        return untraced(card)
    try:
        return foretold(plan, card, trace=True)
    except Exception as error:
        log(f"activations are not predicted: {error}")
        why = " ".join(str(error).split())
        return untraced(card, (finding(NOT_CALIBRATED, f"nothing is kept of this run: {why}"),) * always)


def _calibrate(plan: Plan, told: Foretold, measured: Forecast) -> list[Diagnostic]:
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


def _say(compiled: Compiled, info: DeviceInfo, room: Room) -> None:
    put(picture(compiled.plan, compiled.schedule, info, room))
    if compiled.forecast is not None:
        put(f"  {forecast_words(compiled.forecast)}")


def _over(plan: Plan, report: Report) -> list[Diagnostic]:
    """The run held more than the plan's budget: it says so, after the output is saved."""
    asked = plan.budget.vram
    if asked is None or report.within is not False:
        return []
    said = f"the run held {gib(report.held)}, and the budget is {gib(report.budget.budget or 0)}"
    hint = f"--set budget.vram={fitting(report.held)} would have been enough"
    return [finding(OVER_BUDGET, said, span=asked.span, pointer="/budget/vram", hint=hint)]
