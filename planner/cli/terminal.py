"""Findings to stdout, progress and logs to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console, RenderableType

from planner.diagnostics.diagnostic import Diagnostic, errors
from planner.diagnostics.render import as_github, as_json, as_sarif, text
from planner.report.render import to_text
from planner.source.text import SourceText

overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key for this run, the value read as YAML: --set budget.vram=8GiB",
)
strict_option = click.option(
    "--strict", is_flag=True, help="Warnings count as errors, and so does what could not be checked."
)


WRITERS = {"text": text, "json": as_json, "sarif": as_sarif, "github": as_github}


def format_option(*formats: str) -> Callable[[Any], Any]:
    """``--format`` with these choices, the first by default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Of the output.",
    )


def show(found: Sequence[Diagnostic], sources: Sequence[SourceText] = (), form: str = "text") -> int:
    """Prints findings on stdout and returns the exit code that they ask for."""
    print(WRITERS[form](found, sources), end="")
    return exit_code(found)


def exit_code(found: Sequence[Diagnostic]) -> int:
    """The largest among the errors' exit codes, 0 without errors."""
    return max((d.code.exit_code for d in errors(found)), default=0)


def put(*parts: RenderableType) -> None:
    """Tables and lines to stdout: as wide as the terminal, or as wide as they need where there is none."""
    console = Console(highlight=False, markup=False, emoji=False)
    for part in parts:
        if isinstance(part, str):
            print(part)
        elif console.is_terminal:
            console.print(part)
        else:
            print(to_text(part, width=120), end="")


def log(line: str) -> None:
    """A line for whoever watches, not for whoever reads the output."""
    print(line, file=sys.stderr)
