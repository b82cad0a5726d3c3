"""``plan catalogue``: what plans need to know of pipeline classes of one's own, as a file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from planner.api import catalogue
from planner.cli.output import Output
from planner.cli.terminal import stdout_is_a_file
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.loading.written import written_text


@click.command("catalogue")
@click.argument("classes", nargs=-1, required=True, metavar="MODULE:CLASS...")
@click.option("-o", "--out", type=Output(dir_okay=False), help="Where to; stdout by default.")
def catalogue_command(classes: tuple[str, ...], out: Path | None) -> int:
    """Read pipeline classes of your own and write what plans need to know of them.

    Their modules are imported here. With --catalogue FILE, or OFFLOAD_PLANNER_CATALOGUE, the other verbs
    check plans for them where neither their code nor torch is.
    """
    from planner.loading.make import code_at

    if out is None:
        stdout_is_a_file()
    if out is not None and out.exists() and not _is_catalogue(out):
        said = f'"{out}" is there and is no catalogue: it is left as it is'
        raise PlanError([finding(OUTPUT_TAKEN, said)])
    text = catalogue(*(code_at(spec) for spec in classes))
    if out is None:
        print(text, end="")
        return 0
    try:
        written_text(out.resolve(), text, replace=True)
    except OSError as error:
        said = f'cannot write "{out}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    click.echo(f"wrote {out}")
    return 0


def _is_catalogue(path: Path) -> bool:
    """Whether a file is one, of this version or another."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(there, dict) and {"format", "classes"} <= {*there}
