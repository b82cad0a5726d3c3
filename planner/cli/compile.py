"""``plan compile``: the schedule of a plan, as a table or as deterministic JSON."""

from __future__ import annotations

from pathlib import Path

import click

from planner.api import compile
from planner.cli.later import not_yet
from planner.cli.terminal import format_option, overrides_option, put, show
from planner.report.steps import steps_table, totals


@click.command("compile")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", metavar="CLASS|FOLDER", help="Compile for this, not the plan's own pipeline.")
@click.option("--lock", is_flag=True, help="Not made yet.", hidden=True)
@click.option("--check", is_flag=True, help="Not made yet.", hidden=True)
@format_option("text", "json")
@overrides_option
def compile_command(
    file: Path, target: str | None, lock: bool, check: bool, form: str, overrides: tuple[str, ...]
) -> int:
    """Compile a plan to the steps that a run will make.

    --format json prints the schedule as a file: the same plan gives the same bytes.
    """
    if lock or check:
        raise not_yet("--lock" if lock else "--check", "plan compile FILE --format json, kept and compared")
    compiled = compile(file, target, overrides=overrides)
    if form == "json":
        print(compiled.to_json(), end="")
        return 0
    put(steps_table(compiled.schedule), totals(compiled.schedule))
    return show(compiled.diagnostics, compiled.plan.document.sources)
