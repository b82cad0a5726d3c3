"""``plan fit``: the fastest plan for a card's memory, written with its reasons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from planner.cli.card import card_option, here
from planner.cli.code import catalogue_option
from planner.cli.complete import plan_files
from planner.cli.fitting import watched
from planner.cli.output import Output
from planner.cli.source import source_of
from planner.cli.terminal import log, overrides_option, put, raw, show, stdout_is_a_file
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_IS_INPUT, OUTPUT_TAKEN, PLOT_UNKNOWN
from planner.fitting.draft import draft_of
from planner.fitting.fit import Fitted, fit
from planner.fitting.frontier import Point, buys, drawn, frontier, what
from planner.fitting.pictures import ALLOW
from planner.fitting.price import Objective
from planner.loading.destination import Destination
from planner.loading.keep import write_anew
from planner.report.sheet import Sheet, sheet
from planner.schedule.card import Card
from planner.schedule.fit import gib
from planner.source.text import SourceText

PICTURES = (".svg", ".png")


@click.command("fit")
@click.argument("source", metavar="CLASS|FOLDER|HUB-ID|FILE", shell_complete=plan_files)
@click.option(
    "--vram",
    metavar="SIZE",
    help="Of the device for this process: 12GiB; auto: what is free here.",
)
@click.option("--ram", metavar="SIZE", help="Host memory for all weights.")
@click.option("--pinned", metavar="SIZE", help="Of it, how much may be registered for fast copies.")
@card_option
@click.option(
    "--run", "arguments", metavar="KEY=VALUE,...", help="Of the call: height=768,width=768,num_frames=61."
)
@click.option(
    "--allow", metavar=",".join(ALLOW), default="", help="What may change the picture; nothing by default."
)
@click.option(
    "--idle",
    type=click.Choice(["keep", "release"]),
    help="What is on the device between calls; the better one by default.",
)
@click.option(
    "--for",
    "objective",
    type=click.Choice(["steady", "first"]),
    default="steady",
    show_default=True,
    help="Which call is to be fast.",
)
@click.option("-o", "--output", type=Output(), metavar="FILE", help="Where to; printed by default.")
@click.option("--force", is_flag=True, help="--output and --frontier may write over a file.")
@click.option(
    "--frontier",
    "frontier_file",
    type=Output(),
    metavar="FILE",
    help="Seconds by memory, drawn (.svg, .png), and as a table.",
)
@catalogue_option
@overrides_option
def fit_command(
    source: str,
    vram: str | None,
    ram: str | None,
    pinned: str | None,
    card: Card | None,
    arguments: str | None,
    allow: str,
    idle: str | None,
    objective: Objective,
    output: Path | None,
    force: bool,
    frontier_file: Path | None,
    catalogues: tuple[Path, ...],
    overrides: tuple[str, ...],
) -> int:
    """Find the fastest plan for a memory, and write it with a reason for each choice.

    What a plan says is kept, comments and layout too; what it leaves open is chosen: policies, how much
    stays, what stays between calls; and what an earlier fit chose, but for what was changed since. How far
    ahead blocks come, and what is pinned under --pinned, is left to the compiler. Seconds are those of plan
    explain --activations; the file says how far from them the best possible plan could be.
    """
    allowed = _allowed(allow)
    if output is None:
        stdout_is_a_file()
    else:
        _writable(output, source, force=force)
    given = source_of(source) if source == "-" else source
    if frontier_file is not None:
        _drawable(frontier_file, output, given, force=force)
    where = card or _here(given)
    with watched() as watch:
        made = fit(
            given,
            vram="" if vram == "auto" else vram,
            ram=ram,
            pinned=pinned,
            card=where,
            allow=allowed,
            idle=idle,
            objective=objective,
            overrides=(*(_pairs(arguments) if arguments else ()), *overrides),
            catalogue=catalogues,
            watch=watch,
        )
    if output is None:
        raw(made.text)
    else:
        try:
            made.save(output, replace=force)
        except OSError as error:
            said = f'cannot write "{output}": {error.strerror or error}'
            raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
        put(_table(made), "", *made.certificate)
        log(f"wrote {output}")
    if frontier_file is not None:
        _frontier(made, frontier_file, force=force)
    return show(made.diagnostics, made.plan.document.sources)


def _table(made: Fitted) -> Sheet:
    rows = [(subject, why) for subject, why in made.reasons]
    return sheet("!what", "~why", rows=rows, gap=2)


def _allowed(said: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in said.split(",") if part.strip())
    for part in found:
        if part not in ALLOW:
            raise click.UsageError(f'--allow "{part}": one of {", ".join(ALLOW)}, with commas')
    return found


def _pairs(said: str) -> Sequence[str]:
    """As overrides: values are YAML."""
    pairs = [part.partition("=") for part in said.split(",")]
    if bad := next((key for key, sign, _ in pairs if not sign or not key.strip()), None):
        raise click.UsageError(
            f'--run "{bad}": KEY=VALUE, several with commas; --set run.KEY=VALUE for others'
        )
    return [f"run.{key.strip()}={value.strip()}" for key, _, value in pairs]


def _writable(output: Path, source: str, *, force: bool) -> None:
    """Before anything is searched. The plan itself may be written into, through a link that leads to it."""
    there = os.path.lexists(output)
    if there and os.path.exists(output) and Path(source).exists() and output.samefile(source):
        if not force:
            said = f'"{output}" is the plan itself'
            raise PlanError([finding(OUTPUT_IS_INPUT, said, hint="--force writes the choices into it")])
    elif output.is_symlink():
        said = f'"{output}" is a link, and what it leads to is not written over'
        raise PlanError([finding(OUTPUT_IS_INPUT, said, hint=f"--output {os.path.realpath(output)}")])
    elif there and not output.is_file():
        raise PlanError([finding(OUTPUT_UNWRITABLE, f'"{output}" is no regular file')])
    elif there and not force:
        raise PlanError([finding(OUTPUT_TAKEN, f'"{output}" is there already', hint="--force replaces it")])
    if not output.absolute().parent.is_dir():
        raise PlanError([finding(OUTPUT_UNWRITABLE, f'no folder "{output.absolute().parent}"')])
    if Path(source).is_file() and output.absolute().parent != Path(source).absolute().parent:
        raise click.UsageError("write it beside the plan: its paths are relative to where it is")


def _drawable(picture: Path, output: Path | None, source: Path | SourceText | str, *, force: bool) -> None:
    """Before anything is searched."""
    if picture.suffix.lower() not in PICTURES:
        raise PlanError([finding(PLOT_UNKNOWN, f'"{picture}" is neither .svg nor .png')])
    if output is not None and output.absolute() == picture.absolute():
        raise PlanError([finding(BAD_OUTPUT, f'--output and --frontier are both "{picture}"')])
    if found := [*Destination("--frontier", picture, draft_of(source, ()).plan, force).faults()]:
        raise PlanError(found)


def _here(source: Path | SourceText | str) -> Card:
    """The card that the plan would run on. Raises PlanError, and a usage error where there is none."""
    card = here(draft_of(source, ()).plan)
    if card is None:
        raise click.UsageError("no card was found here: --card NAME of one that ships, or a card's file")
    return card


def _frontier(made: Fitted, path: Path, *, force: bool) -> None:
    with watched() as watch:
        points = frontier(made, watch)
    rows = [
        (
            gib(p.budget),
            f"{p.seconds:.2f}",
            f"{p.bound / 1e6:.2f}",
            gib(p.price.outcome.peak),
            knee(p),
            what(p),
        )
        for p in points
    ]
    put("", sheet(">memory", ">seconds", ">bound", ">driver", "", "~plan", rows=rows, gap=2))
    if said := buys(points, made.task.room.budget):
        put(said)
    write_anew(path, drawn(points, f"{made.plan.name} on {made.task.data.name}", path), force=force)
    log(f"wrote {path}")


def knee(point: Point) -> str:
    """More memory buys far less from here on."""
    return "knee" if point.knee else ""
