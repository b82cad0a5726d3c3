"""``plan compile``: the schedule of a plan, as a table or as deterministic JSON."""

from __future__ import annotations

from pathlib import Path

import click

from planner.api import compile, load, validate
from planner.cli.card import card_option, info_of
from planner.cli.code import catalogue_option, from_option, seen
from planner.cli.complete import classes, plan_files
from planner.cli.locks import as_measured, write_lock
from planner.cli.source import source_of
from planner.cli.terminal import format_option, log, overrides_option, put, raw, show
from planner.lock.model import lock_path
from planner.report.render import head
from planner.report.steps import steps_table, totals
from planner.schedule.card import Card


@click.command("compile")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option(
    "--target",
    metavar="CLASS|FOLDER",
    shell_complete=classes,
    help="Compile for this, not the plan's own pipeline.",
)
@click.option("--lock", is_flag=True, help="Write NAME.plan.lock.json beside the plan.")
@click.option("--check", is_flag=True, help="Compare with that file: exit 1 and each item that drifted.")
@card_option
@format_option("text", "json")
@from_option
@catalogue_option
@overrides_option
def compile_command(
    file: Path,
    target: str | None,
    lock: bool,
    check: bool,
    card: Card | None,
    form: str,
    code: str | None,
    catalogues: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> int:
    """Compile a plan to the steps that a run will make.

    For the plan's own budget, or for the card that --card says; never for the one that is here. --format json
    prints the schedule as a file: the same plan gives the same bytes. --lock keeps what the plan was compiled
    from and to: sizes, versions, the class's walk, the schedule, the commit of a hub's pipeline in the cache.
    """
    if lock and check:
        raise click.UsageError("--lock writes and --check compares: one of them")
    if (lock or check) and (target is not None or str(file) == "-"):
        raise click.UsageError("a lock is of a plan's file and its own pipeline")
    plan = load(source_of(file), overrides=overrides)
    aim, known = seen(code, target, catalogues)
    if check:
        told = as_measured(plan, aim, card)
        call, card = (None, card) if told is None else (told.call, told.card)
        result = validate(plan, target=aim, card=card, catalogue=known, locked=True, call=call)
        ends = show(result.diagnostics, result.sources or plan.document.sources)
        if result:
            log(f"{lock_path(file)}: as it was locked")
        return ends
    if lock:
        return write_lock(plan, file, aim, card, known)
    compiled = compile(plan, aim, card=card, catalogue=known)
    if form == "json":
        raw(compiled.to_json())
        return 0
    schedule = compiled.schedule
    info, room = (None, None) if card is None else (info_of(card), card.room(plan, compiled.target.bytes)[0])
    put(head(plan, schedule, info, room), "", steps_table(schedule), totals(schedule))
    return show(compiled.diagnostics, plan.document.sources)
