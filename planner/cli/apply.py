"""``plan apply``: check, say what will happen, load, run, save, and say what happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.api import attach, compile, device_for, load
from planner.cli.asked import Asked, Code
from planner.cli.card import card_option, info_of
from planner.cli.code import catalogue_option, from_option
from planner.cli.complete import plan_files
from planner.cli.locks import kept_to, locked_option
from planner.cli.output import Output
from planner.cli.plots import destination_findings, plot_option, trace_option
from planner.cli.ran import NOTHING_RAN, Run, keep_calibration
from planner.cli.signals import terminable
from planner.cli.source import source_of
from planner.cli.terminal import log, overrides_option, put, show
from planner.cli.traced import Foretold, foretold, untraced
from planner.diagnostics.diagnostic import PlanError, Severity, errors, finding
from planner.diagnostics.table.p9_card import NOT_CALIBRATED
from planner.plan.model import Plan
from planner.plan.run import check_run
from planner.predict.start import Figure, Start
from planner.report.model import DeviceInfo
from planner.report.render import picture
from planner.report.uses import forecast_words, start_words
from planner.schedule.card import Card, Room
from planner.stages.results import Compiled

if TYPE_CHECKING:
    from planner.device.protocol import Device


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option("--out", type=Output(), help="Where the output goes: a file, or a folder.")
@click.option("--simulate", is_flag=True, help="On a virtual accelerator: no GPU needed, every mistake seen.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; load nothing.")
@card_option
@click.option("--report", type=Output(), help="Write the report as JSON.")
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
    asked = Asked(**options)
    if locked:
        code = Code.of(asked)
        plan = kept_to(plan, code.cls, code.catalogue)
    try:
        if dry_run:
            return _dry_run(plan, asked, card)
        with terminable():
            return _apply(plan, asked)
    except PlanError as error:
        raise PlanError(error.diagnostics, error.sources or plan.document.sources) from error.__cause__


def _dry_run(plan: Plan, asked: Asked, card: Card | None) -> int:
    code, cls = Code.of(asked), None
    if card is None:
        from planner.loading.packages import require

        require()
        _, card = _device(plan, simulate=asked.simulate)
        cls = code.cls or (None if code.function else _class(plan))
    told = _foretold(plan, card)
    said = compile(plan, code.shows(plan), card=told.card, catalogue=code.catalogue, call=told.call)
    _check_files(plan, asked, cls)
    _say(said, info_of(card), card.room(plan, said.target.bytes)[0], _ours(said.start, code))
    return show([*said.diagnostics, *told.found], plan.document.sources)


def _apply(plan: Plan, asked: Asked) -> int:
    from planner.loading.packages import require

    require()
    from planner.loading.call import attempt
    from planner.loading.inputs import call_of
    from planner.loading.outputs import sample_rate_of
    from planner.loading.pipeline import load_pipeline
    from planner.loading.progress import reading
    from planner.loading.stopwatch import Stopwatch
    from planner.virtual.audit import snapshot

    device, card = _device(plan, simulate=asked.simulate)
    code = Code.of(asked)
    info, told = info_of(card), _foretold(plan, card, always=asked.calibrate)
    call = told.call or (told.plain if card.data is not None else None)
    before = compile(plan, code.shows(plan), card=told.card, catalogue=code.catalogue, call=call)
    room, _ = card.room(plan, before.target.bytes)
    _check_call(before)
    _check_files(plan, asked, code.cls or (None if code.function else _class(plan)))
    known = before.schedule.peak is not None
    start = _ours(before.start, code)
    if known:
        _say(before, info, room, start)
    try:
        with Stopwatch() as loading:
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
        with Stopwatch(device.name) as applying:
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
        run = Run(plan, before, info, room, plan.run.get("seed", 0), asked)
        return run.broke_off(NOTHING_RAN, stopped)
    if start is not None and compiled.start is not None:
        start = replace(compiled.start, load=start.load)  # what files have is not seen of a loaded one
    if not known:
        _say(compiled, info, room, start)
    notes = [*told.found, *(d for d in session.notes if d.severity is not Severity.NOTE)]
    over_time = asked.plot is not None or asked.trace is not None or asked.calibrate
    outcome = attempt(session, plan, pipe, arguments.arguments, truth, over_time=over_time, card=card)
    session.remove()
    took = (None if code.function else loading.seconds, applying.seconds)
    run = Run(plan, compiled, info, room, arguments.seed, asked, start, took, outcome.over_time)
    if outcome.raised is not None:
        return run.broke_off(outcome.measured, outcome.raised)
    assert outcome.measured is not None
    found = run.finished(outcome.result, outcome.measured, sample_rate_of(pipe))
    if asked.calibrate and outcome.over_time is not None:
        found += keep_calibration(plan, told, outcome.over_time)
    return show([*notes, *outcome.found, *found], plan.document.sources)


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


def _check_files(plan: Plan, asked: Asked, cls: type | None) -> None:
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


def _ours(start: Start | None, code: Code) -> Start | None:
    """A pipeline that code makes is loaded by that."""
    if start is None or code.function is None:
        return start
    return replace(start, load=Figure(seconds=None, source="not known", why=f"{code.spec} makes it"))


def _say(compiled: Compiled, info: DeviceInfo, room: Room, start: Start | None) -> None:
    put(picture(compiled.plan, compiled.schedule, info, room))
    if compiled.forecast is not None:
        put(f"  {forecast_words(compiled.forecast)}")
    if start is not None:
        put(f"  {start_words(start)}")
