"""``plan docs``: the documentation, offline."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.terminal import log, put, raw
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE, PACKAGE_MISSING
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.docs.pages import PAGES, page
from planner.report.sheet import sheet

DEFAULT = "plan-docs"


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [one.name for one in PAGES if one.name.startswith(incomplete)]


@click.command("docs")
@click.argument("name", metavar="[PAGE]", required=False, shell_complete=_names)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help=f"Build it there; {DEFAULT} here by default.",
)
@click.option("--list", "listed", is_flag=True, help="The pages, a line each.")
def docs_command(name: str | None, out: Path | None, listed: bool) -> int:
    """Build the documentation as HTML that needs no network, or print a PAGE of it as Markdown.

    Building needs the extra [docs]; printing does not.
    """
    if (name is not None) + (out is not None) + listed > 1:
        raise click.UsageError("give a PAGE to print, --out to build all of them, or --list")
    if listed:
        put(sheet("!page", "~title", rows=[(one.name, one.title) for one in PAGES]))
        return 0
    if name is None:
        return _build(out or Path(DEFAULT))
    found = page(name)
    if found is None:
        raise click.UsageError(f'no page "{name}"; {did_you_mean(name, [one.name for one in PAGES])}')
    raw(found.text())
    return 0


def _build(out: Path) -> int:
    try:
        from planner.docs.site import build, foreign
    except ModuleNotFoundError as error:
        hint = "pip install 'offload-planner[docs]'; plan docs PAGE prints a page without it"
        said = f'building the documentation needs "{error.name}"'
        raise PlanError([finding(PACKAGE_MISSING, said, hint=hint)]) from error
    if foreign(out):
        hint = "plan docs --out OTHER-FOLDER"
        raise PlanError([finding(OUTPUT_TAKEN, f'"{out}" has an index.html of somebody else', hint=hint)])
    try:
        files = build(out)
    except OSError as error:
        said = f'cannot write "{error.filename}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    log(f"wrote {len(files)} files; open {out / 'index.html'}")
    return 0
