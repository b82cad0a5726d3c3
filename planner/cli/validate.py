"""``plan validate``: everything that can be said of plans without a GPU, weights or the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from planner.api import load, validate
from planner.cli.card import card_option
from planner.cli.code import catalogue_option, from_option, seen
from planner.cli.complete import classes, plan_files
from planner.cli.locks import locked_option
from planner.cli.search import STDIN, plans
from planner.cli.source import source_of
from planner.cli.terminal import format_option, log, overrides_option, put, show, strict_option
from planner.cli.traced import activations_option, traced
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity
from planner.diagnostics.machine import Checked, statistics
from planner.diagnostics.once import once
from planner.predict.profile import CallProfile
from planner.report.sheet import sheet
from planner.schedule.card import Card
from planner.source.text import SourceText


@click.command("validate")
@click.argument(
    "paths",
    nargs=-1,
    type=click.Path(path_type=Path),
    metavar="[FILE|DIR|GLOB|- ...]",
    shell_complete=plan_files,
)
@click.option(
    "--target",
    metavar="CLASS|FOLDER",
    shell_complete=classes,
    help="Check against this, not the plan's own pipeline.",
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out what fits, when searching.")
@click.option("--statistics", "counted", is_flag=True, help="How often each code was found, last.")
@card_option
@activations_option
@locked_option
@format_option("text", "json", "sarif", "github")
@strict_option
@from_option
@catalogue_option
@overrides_option
def validate_command(
    paths: tuple[Path, ...],
    target: str | None,
    exclude: tuple[str, ...],
    counted: bool,
    card: Card | None,
    activations: bool,
    locked: bool,
    form: str,
    strict: bool,
    code: str | None,
    catalogues: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> int:
    """Check plans: syntax, names, order, and whether they fit.

    A folder, by default the current one, is searched for files named *.plan.yaml; hidden folders are left
    out. A pattern (plans/**/*.yaml) is what fits it, and - is standard input. --activations checks what
    activations take beside the weights, too.
    """
    sources: dict[str, SourceText] = {}
    checked: list[Checked] = []
    read: list[tuple[SourceText, ...]] = []
    aim, known = seen(code, target, catalogues)
    for file in plans(paths or (Path(),), exclude):
        source = source_of(file)
        call, untraced = _call(source, overrides, card) if activations else (None, ())
        result = validate(
            source,
            target=aim,
            overrides=overrides,
            strict=strict,
            card=card,
            catalogue=known,
            call=call,
            locked=locked,
        )
        diagnostics = (*result.diagnostics, *(d for d in untraced if d not in result.diagnostics))
        name = str(file) if file != STDIN else result.sources[0].name if result.sources else str(file)
        checked.append(Checked(name, diagnostics))
        read.append(result.sources)
        sources |= {source.name: source for source in result.sources}
        if form == "text":
            log(f"{name}: {_summary(diagnostics)}")
    found = once((one.file, one.found, texts) for one, texts in zip(checked, read, strict=True))
    ends = show(found, tuple(sources.values()), checked)
    if form == "text":
        if counted and found:
            put("", sheet(">times", "!code", rows=[(str(n), str(c)) for c, n in statistics(found).items()]))
        if len(checked) > 1:
            log(_all(checked))
    return ends


def _call(
    source: Path | SourceText, overrides: Sequence[str], card: Card | None
) -> tuple[CallProfile | None, tuple[Diagnostic, ...]]:
    """The traced call of a plan, or why it cannot be traced."""
    try:
        return traced(load(source, overrides=overrides), card), ()
    except PlanError as error:
        return None, tuple(error.diagnostics)


def _summary(found: Sequence[Diagnostic]) -> str:
    counts = {s: sum(d.severity is s for d in found) for s in Severity}
    said = [f"{n} {s.value}{'s' if n > 1 else ''}" for s, n in counts.items() if n]
    return ", ".join(said) or "ok"


def _all(checked: Sequence[Checked]) -> str:
    """``3 plans, 1 of them wrong: 2 errors, 1 note``."""
    wrong = sum(any(d.severity is Severity.ERROR for d in one.found) for one in checked)
    said = f"{len(checked)} plans, {wrong or 'none'} of them wrong"
    found = [problem for one in checked for problem in one.found]
    return f"{said}: {_summary(found)}" if found else said
