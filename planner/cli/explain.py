"""``plan explain``: what a plan will do and why, or what a code means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import RenderableType

from planner.api import compile, load
from planner.cli.card import card_of, card_option, info_of
from planner.cli.code import catalogue_option, from_option, seen
from planner.cli.complete import classes, plans_and_codes
from planner.cli.plots import chart_of, destination_findings, drawn, plot_option, trace_option
from planner.cli.source import source_of
from planner.cli.terminal import log, overrides_option, put, raw, show, stdout_is_a_file
from planner.cli.traced import activations_option, foretold, traced
from planner.cli.what_if import ways, what_if_table
from planner.diagnostics.codes import all_codes, find, suggestion
from planner.diagnostics.diagnostic import Code, Diagnostic, PlanError, Severity, finding
from planner.diagnostics.table.p0_tool import UNKNOWN_CODE
from planner.diagnostics.table.p9_output import NOTHING_TO_PLOT
from planner.plan.model import Plan
from planner.plan.write import to_yaml
from planner.report.render import head, host_words, timeline_table
from planner.report.rules import rules_table
from planner.report.sheet import sheet
from planner.report.steps import pinned_first, placements_table, steps_table, totals
from planner.report.uses import forecast_table, forecast_words, start_words, uses_table
from planner.schedule.card import Card
from planner.stages.results import Compiled


@click.command("explain")
@click.argument("what", metavar="FILE|CODE", required=False, shell_complete=plans_and_codes)
@click.option("--all", "every", is_flag=True, help="Every code, a line each.")
@click.option(
    "--target",
    metavar="CLASS|FOLDER",
    shell_complete=classes,
    help="Explain for this, not the plan's own pipeline.",
)
@card_option
@click.option(
    "--as",
    "form",
    type=click.Choice(["table", "yaml"]),
    default="table",
    show_default=True,
    help="yaml: the plan with everything that it leaves unsaid.",
)
@plot_option
@trace_option
@click.option("--force", is_flag=True, help="--plot and --trace may write over a file.")
@activations_option
@from_option
@catalogue_option
@overrides_option
def explain_command(
    what: str | None,
    every: bool,
    target: str | None,
    card: Card | None,
    form: str,
    activations: bool,
    plot: Path | None,
    trace: Path | None,
    force: bool,
    code: str | None,
    catalogues: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> int:
    """Explain a plan (what moves when, and why) or a code (P302, unknown-component).

    A plan is explained for the card that is here, or for the one that --card says. --set with several values
    and commas between them (--set budget.vram=8GiB,12GiB) shows a line for each in place of the plan.
    """
    if every == (what is not None):
        raise click.UsageError("give a plan or a code, or --all")
    asked = plot is not None or trace is not None
    if form == "yaml":
        stdout_is_a_file()
    if what is None:
        _of_plans(asked)
        return _all()
    if what != "-" and not os.path.exists(what) and not what.endswith((".yaml", ".yml")):
        _of_plans(asked)
        return _code(what)
    source = source_of(what)
    choices = ways(source, overrides)
    plan = load(source, overrides=choices[0])
    if found := [*destination_findings(plan, plot, trace, {}, force=force)]:
        raise PlanError(found, plan.document.sources)
    where = card_of(plan, card)
    aim, known = seen(code, target, catalogues)

    told: list[Diagnostic] = []

    def compiled_for(plan: Plan) -> Compiled:
        if aim is not None:
            call = traced(plan, where) if activations or asked else None
            return compile(plan, aim, card=where, catalogue=known, call=call)
        found = foretold(plan, where, trace=activations or asked)
        told.extend(d for d in found.found if d not in told)
        return compile(plan, aim, card=found.card, catalogue=known, call=found.call)

    if len(choices) > 1:
        if asked or form == "yaml":
            raise click.UsageError("--plot, --trace and --as yaml are of one plan: set one value a key")
        put(what_if_table(source, choices, compiled_for))
        return show(told, plan.document.sources)
    compiled = compiled_for(plan)
    call = compiled.call
    if asked:
        _draw(compiled, where, plot, trace, force=force)
    if form == "yaml":
        raw(to_yaml(compiled.plan))
        return show([*compiled.diagnostics, *told], plan.document.sources)
    put(*_parts(compiled, where))
    if call is not None:
        put("", uses_table(call))
    if compiled.forecast is not None:
        put("", forecast_table(compiled.forecast), forecast_words(compiled.forecast))
    if compiled.start is not None:
        put(*[""] * (compiled.forecast is None), start_words(compiled.start))
    return show([*compiled.diagnostics, *told], plan.document.sources)


def _of_plans(asked: bool) -> None:
    if asked:
        raise click.UsageError("--plot and --trace are of a plan's call")


def _draw(compiled: Compiled, card: Card, plot: Path | None, trace: Path | None, *, force: bool) -> None:
    """Raises PlanError (P944) where there is no forecast, and where a file cannot be written."""
    from planner.loading.keep import write_anew

    if compiled.forecast is None:
        said = f"there is no forecast of this call: the rates of {info_of(card).name} are not known"
        hint = "--card rtx-4090, or a file that plan doctor --measure wrote"
        raise PlanError([finding(NOTHING_TO_PLOT, said, span=compiled.plan.span, hint=hint)])
    room, _ = card.room(compiled.plan, compiled.target.bytes)
    chart = chart_of(compiled, info_of(card), room.budget)
    for path, made in drawn(chart, plot, trace):
        write_anew(path, made, force=force)
        log(f"wrote {path}")


def _parts(compiled: Compiled, card: Card) -> Iterator[RenderableType]:
    plan, schedule = compiled.plan, compiled.schedule
    room, _ = card.room(plan, compiled.target.bytes)
    yield head(plan, schedule, info_of(card), room)
    yield f"semantics: {plan.semantics.value}   idle: {plan.idle.value}"
    yield ""
    if plan.quantization:
        yield from (rules_table(plan, compiled.target), "")
    yield from (timeline_table(compiled.timeline), "")
    yield from (placements_table(schedule), "")
    yield from (steps_table(schedule), "")
    yield totals(schedule)
    yield f"host RAM {host_words(plan, schedule)}; {pinned_first(schedule)}"


def _all() -> int:
    codes = all_codes().values()
    rows = [(code.id, code.name, _weight(code), _first(code.help)) for code in codes]
    put(sheet("!code", "!name", "weight", "~means", rows=rows, gap=2))
    return 0


def _first(text: str) -> str:
    return text.split(". ")[0].rstrip(".")


def _weight(code: Code) -> str:
    """Only an error ends a command with a code of its own."""
    if code.severity is Severity.ERROR:
        return f"error, exit {code.exit_code}"
    strict = code.severity is Severity.WARNING or code.strict
    return f"{code.severity.value}, exit 0" + (f"; an error, exit {code.exit_code}, with --strict" * strict)


def _code(what: str) -> int:
    code = find(what)
    if code is None:
        raise PlanError(
            [finding(UNKNOWN_CODE, f'"{what}" is no plan file and no code', hint=suggestion(what))]
        )
    put(_help(code))
    return 0


def _help(code: Code) -> str:
    parts = (f"{code}   {_weight(code)}", "", code.help, "")
    examples = (("wrong", code.wrong), ("right", code.right))
    shown = [
        line for name, text in examples for line in (f"{name}:", *(f"    {x}" for x in text.split("\n")), "")
    ]
    return "\n".join((*parts, *shown)).rstrip()
