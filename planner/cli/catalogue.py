"""``plan catalogue``: what plans need to know of pipeline classes of one's own, as a file."""

from __future__ import annotations

from pathlib import Path

import click

from planner.api import catalogue
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE


@click.command("catalogue")
@click.argument("classes", nargs=-1, required=True, metavar="MODULE:CLASS...")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to; stdout by default."
)
def catalogue_command(classes: tuple[str, ...], out: Path | None) -> int:
    """Read pipeline classes of your own and write what plans need to know of them.

    Their modules are imported here. With --catalogue FILE, or OFFLOAD_PLANNER_CATALOGUE, the other verbs
    check plans for them where neither their code nor torch is.
    """
    from planner.loading.make import code_at

    text = catalogue(*(code_at(spec) for spec in classes))
    if out is None:
        print(text, end="")
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        said = f'cannot write "{out}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    click.echo(f"wrote {out}")
    return 0
