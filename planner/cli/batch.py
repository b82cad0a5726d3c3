"""``plan batch``: one plan, many rows, one output each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.batches.batch import batch
from planner.cli.card import card_option
from planner.cli.complete import plan_files
from planner.cli.source import source_of
from planner.cli.terminal import log, overrides_option, put, show


@click.command("batch")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option("--inputs", required=True, help="Rows: .jsonl, .csv, .parquet, or - for JSON lines on stdin.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder of the outputs.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a device by default.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", help="Processes, or Ray Data."
)
@click.option("--address", help="Of a Ray cluster, for --engine ray; without it, one on this machine.")
@click.option("--limit", type=click.IntRange(min=1), help="Run so many rows at most.")
@click.option("--simulate", is_flag=True, help="On a virtual accelerator: no GPU needed.")
@click.option("--dry-run", is_flag=True, help="Check the rows and say what they would take; load nothing.")
@card_option
@click.option("--metrics", type=click.Path(path_type=Path), help="A file for Prometheus, as rows end.")
@click.option("--retry", is_flag=True, help="Run rows that failed, too.")
@click.option("--force", is_flag=True, help="Make outputs of another plan or row again.")
@click.option("--fail-fast", is_flag=True, help="End at the first row that fails.")
@overrides_option
def batch_command(file: Path, inputs: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Run a plan for each row of a file. What is finished is not run again.

    One worker a device that the plan's device key allows. Ctrl-C ends it after the rows that run, twice: now.
    --dry-run tells peak, time and disk, for the card that is here or the one that --card says.
    """
    if options["card"] is not None and not options["dry_run"]:
        raise click.UsageError("--card is for --dry-run: rows run on the card that is here")
    made = batch(source_of(file), inputs, overrides=overrides, tell=log, **options)
    what = "to run" if options["dry_run"] else "left"
    put(f"{made.done} done, {made.skipped} finished before, {made.failed} failed, {made.left} {what}")
    if made.ahead is not None:
        put(str(made.ahead))
        show(made.ahead.found)
    if made.results is not None:
        put(f"wrote {made.results}")
    return made.exit_code
