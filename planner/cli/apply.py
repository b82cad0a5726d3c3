"""``plan apply``: check, say what will happen, load, run, save, and say what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.api import Compiled, attach, compile, device_for, load
from planner.cli.later import not_yet
from planner.cli.terminal import overrides_option, put, show
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, finding
from planner.diagnostics.table.p0_tool import OVER_BUDGET
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.plan.model import Plan
from planner.report.build import report_of
from planner.report.model import DeviceInfo, Report
from planner.report.render import measured_table, picture, wrote_line
from planner.schedule.fit import fitting, gib

if TYPE_CHECKING:
    from planner.device.protocol import Device
    from planner.session.machine import Room


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the output goes: a file, or a folder.")
@click.option("--simulate", is_flag=True, help="On a virtual accelerator: no GPU needed, every mistake seen.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; load nothing.")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="Write the report as JSON.")
@click.option("--from", "factory", metavar="MODULE:FUNCTION", help="Get the pipeline from this function.")
@click.option("--allow-pickle", is_flag=True, help="Weights in pickle files may be read: they can run code.")
@click.option("--trust-remote-code", is_flag=True, help="Code that comes with a hub id may be run.")
@click.option("--locked", is_flag=True, help="Not made yet.", hidden=True)
@overrides_option
def apply_command(file: Path, overrides: tuple[str, ...], locked: bool, **options: Any) -> int:
    """Run a plan: load its pipeline, apply it, make the output.

    Prints what will be moved before, and promised beside measured after.
    """
    if locked:
        raise not_yet("--locked", "plan compile FILE --format json, kept and compared")
    plan = load(file, overrides=overrides)
    try:
        return _apply(plan, **options)
    except PlanError as error:
        raise PlanError(error.diagnostics, error.sources or plan.document.sources) from error.__cause__


def _apply(
    plan: Plan,
    *,
    out: Path | None,
    simulate: bool,
    dry_run: bool,
    report_file: Path | None,
    factory: str | None,
    allow_pickle: bool,
    trust_remote_code: bool,
) -> int:
    from planner.loading.packages import require

    require()
    from planner.loading.call import call
    from planner.loading.inputs import call_of
    from planner.loading.make import from_factory
    from planner.loading.outputs import check_out, sample_rate_of, save
    from planner.loading.pipeline import load_pipeline
    from planner.loading.progress import reading
    from planner.virtual.audit import snapshot

    if out is not None:
        check_out(out)
    machine = _machine(plan, simulate)
    before = _compiled(plan, None, machine)
    weights = sum(info.bytes or 0 for info in before.target.components.values())
    if (beside := machine.room.beside(weights)) != machine.room:
        machine = replace(machine, room=beside)
        before = _compiled(plan, None, machine)
    known = before.schedule.peak is not None
    if known or dry_run:
        _say(before, machine)
    if dry_run:
        return show(before.diagnostics, plan.document.sources)
    pipe = (
        from_factory(factory)
        if factory
        else load_pipeline(
            plan,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            device_type=machine.device.name.type,
            bar=reading,
        )
    )
    arguments = call_of(plan, pipe)
    truth = snapshot(pipe) if simulate else None
    session, compiled = attach(plan, pipe, machine.device, loaded_by_us=factory is None)
    if not known:
        _say(compiled, machine)
    notes = [d for d in session.notes if d.severity is not Severity.NOTE]
    outcome = call(session, plan, pipe, arguments.arguments, truth)
    session.remove()
    paths = save(outcome.result, plan, out, seed=arguments.seed, sample_rate=sample_rate_of(pipe))
    report = report_of(
        compiled.schedule,
        plan,
        outcome.measured,
        machine.info,
        budget=machine.room,
        seed=arguments.seed,
        outputs=paths,
    )
    put("", measured_table(report), wrote_line(paths, arguments.seed))
    if report_file is not None:
        _write(report, report_file)
    return show([*notes, *outcome.found, *_over(plan, report)], plan.document.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """The device that the plan runs on, as it was before, and the room that it leaves."""

    device: Device
    info: DeviceInfo
    room: Room


def _machine(plan: Plan, simulate: bool) -> _Machine:
    from planner.session.machine import describe_device, pick_device, room
    from planner.virtual.device import SimDevice

    device = SimDevice() if simulate else device_for(pick_device(plan))
    there, _ = room(plan, device.name)
    return _Machine(device=device, info=describe_device(device.name), room=there)


def _compiled(plan: Plan, target: Any, machine: _Machine) -> Compiled:
    return compile(plan, target, budget=machine.room.budget, overhead=machine.room.overhead)


def _say(compiled: Compiled, machine: _Machine) -> None:
    put(picture(compiled.plan, compiled.schedule, machine.info, machine.room))


def _write(report: Report, path: Path) -> None:
    try:
        path.write_text(report.to_json(), encoding="utf-8")
    except OSError as error:
        said = f'cannot write "{path}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    put(wrote_line([path], None))


def _over(plan: Plan, report: Report) -> list[Diagnostic]:
    """The run held more than the plan's budget: it says so, after the output is saved."""
    asked = plan.budget.vram
    if asked is None or report.within is not False:
        return []
    said = f"the run held {gib(report.held)}, and the budget is {gib(report.budget.budget or 0)}"
    hint = f"--set budget.vram={fitting(report.held)} would have been enough"
    return [finding(OVER_BUDGET, said, span=asked.span, pointer="/budget/vram", hint=hint)]
