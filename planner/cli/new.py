"""``plan new``: a plan that ships, as a start for one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from planner.cli.complete import starters
from planner.cli.output import Output
from planner.cli.starters import ENDS, Starter, names, starter
from planner.cli.terminal import log, put
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.loading.written import written_text
from planner.report.sheet import sheet


@click.command("new")
@click.argument("name", required=False, shell_complete=starters)
@click.option(
    "-o",
    "--output",
    type=Output(),
    metavar="FILE|FOLDER",
    help="Where to; NAME.plan.yaml here by default.",
)
def new_command(name: str | None, output: Path | None) -> int:
    """Copy a plan that ships, to be edited; without NAME list them.

    The plans that it extends are copied beside it. Nothing is written over.
    """
    if name is None:
        if output is not None:
            raise click.UsageError("--output needs the NAME of a plan; plan new lists them")
        all_of_them = [starter(one) for one in names()]
        put(sheet("!name", "class", "~what it shows", rows=[(s.name, s.cls, s.about) for s in all_of_them]))
        return 0
    asked = name.removesuffix(ENDS)
    if asked not in names():
        raise click.UsageError(f'no plan "{name}" ships; {did_you_mean(asked, names())}')
    made = starter(asked)
    place = _place(made, output)
    _write(
        {place.parent / file: text for file, text in made.files.items() if file != _main(made)}, place, made
    )
    log(f"wrote {place}")
    log(f"check it: plan validate {place}")
    return 0


def _main(made: Starter) -> str:
    return f"{made.name}{ENDS}"


def _place(made: Starter, output: Path | None) -> Path:
    if output is None:
        return Path(_main(made))
    return output / _main(made) if output.is_dir() else output


def _write(beside: Mapping[Path, str], place: Path, made: Starter) -> None:
    """All of the files or none: what is there already is found before the first is written. A plan below that
    is there as it ships is left alone."""
    files = {path: text for path, text in beside.items() if not _is(path, text)}
    files[place] = made.files[_main(made)]
    taken = [path for path in files if path.exists() or path.is_symlink()]
    if taken:
        hint = f"plan new {made.name} -o OTHER.plan.yaml, or in another folder"
        raise PlanError([finding(OUTPUT_TAKEN, f'"{path}" is there already', hint=hint) for path in taken])
    for path, text in files.items():
        try:
            written_text(path, text)
        except OSError as error:
            said = f'cannot write "{path}": {error.strerror or error}'
            raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error


def _is(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
