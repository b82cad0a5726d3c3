"""``plan schema``: the JSON Schema of plans, for editors."""

from __future__ import annotations

import click

from planner.cli.terminal import raw
from planner.document.schema import schema_text


@click.command("schema")
def schema_command() -> int:
    """Print the JSON Schema of plan files (draft 2020-12).

    Save it, and name it in a plan's first line for completion in an editor:
    # yaml-language-server: $schema=plan.v1.schema.json
    """
    raw(schema_text())
    return 0
