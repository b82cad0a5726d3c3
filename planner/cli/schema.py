"""``plan schema``: the JSON Schema of plans, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from planner.cli.terminal import raw
from planner.document.schema import NAME, schema_text


@click.command("schema")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help=f"Write it there, in a folder as {NAME}.",
)
def schema_command(output: Path | None) -> int:
    """Print the JSON Schema of plan files (draft 2020-12), or write it to a file.

    A plan that is generated names it in its first line, beside the plan; an editor with yaml-language-server
    then completes and explains keys:

    \b
    plan schema -o plan.v1.schema.json
    # yaml-language-server: $schema=plan.v1.schema.json
    """
    if output is None:
        raw(schema_text())
        return 0
    place = output / NAME if output.is_dir() else output
    if place.exists() and not _is_ours(place):
        raise click.UsageError(f"{place} is there and is no schema of plans: it is left as it is")
    try:
        place.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{place} cannot be written: {error.strerror}") from error
    return 0


def _is_ours(place: Path) -> bool:
    """Whether a file is a schema of plans, of this version or another."""
    try:
        there = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(there, dict) and str(there.get("$id", "")).endswith(NAME)
