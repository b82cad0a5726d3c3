"""``plan schema``: the JSON Schema of plans, for editors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from planner.cards.schema import NAME as CARD
from planner.cli.code import catalogue_option
from planner.cli.output import Output
from planner.cli.source import source_of
from planner.cli.terminal import raw
from planner.diagnostics.diagnostic import PlanError
from planner.document.read import read_document
from planner.document.schema import NAME, schema_text
from planner.loading.written import written_text
from planner.target.catalogue import Own
from planner.target.model import Target


@click.command("schema")
@click.option(
    "-o",
    "--output",
    type=Output(),
    metavar="FILE|FOLDER",
    help=f"Write it there, in a folder as {NAME} (or {CARD}).",
)
@click.option(
    "--for",
    "plan",
    type=click.Path(path_type=Path),
    metavar="PLAN",
    help="Narrowed to this plan's class: its components, entry points and arguments, and no others.",
)
@click.option(
    "--of",
    "kind",
    type=click.Choice(["plan", "card"]),
    default="plan",
    show_default=True,
    help="Of plan files, or of the cards' files that --card takes.",
)
@catalogue_option
def schema_command(output: Path | None, plan: Path | None, kind: str, catalogues: tuple[Path, ...]) -> int:
    """Print the JSON Schema of plan files (draft 2020-12), or write it to a file.

    A plan that is generated names it in its first line, beside the plan; an editor with yaml-language-server
    then completes and explains keys:

    \b
    plan schema -o plan.v1.schema.json
    # yaml-language-server: $schema=plan.v1.schema.json
    """
    if plan is not None and kind != "plan":
        raise click.UsageError("--for is for schemas of plans")
    name = NAME if kind == "plan" else CARD
    text = schema_text(name) if plan is None else _narrowed(plan, catalogues)
    if output is None:
        raw(text)
        return 0
    place = output / name if output.is_dir() else output
    if place.exists() and not _is_ours(place, name):
        raise click.UsageError(f"{place} is there and is no schema of {kind}s: it is left as it is")
    try:
        written_text(place.resolve(), text, replace=True)
    except OSError as error:
        raise click.UsageError(f"{place} cannot be written: {error.strerror}") from error
    return 0


def _narrowed(plan: Path, catalogues: Sequence[Path]) -> str:
    """For the class that a plan names, whatever else is not written yet, or wrong. Raises PlanError."""
    from planner.editor.schema import schema_json
    from planner.loading.known import own_of

    document, found, sources = read_document(source_of(plan))
    if document is None:
        raise PlanError(found, sources)
    said = document.values.get("pipeline") if isinstance(document.values, dict) else None
    cls = said.get("class") if isinstance(said, dict) else said
    if not isinstance(cls, str) or not cls:
        raise click.UsageError(f"{plan} names no pipeline class: plan schema is for all of them")
    own, problems, texts = own_of(catalogues)
    if problems:
        raise PlanError(problems, texts)
    requires = document.values.get("requires")
    version = requires.get("diffusers") if isinstance(requires, dict) else None
    return schema_json(_target(cls, version if isinstance(version, str) else None, own))


def _target(cls: str, requires: str | None, own: Own) -> Target:
    from planner.target.find import find_target

    target, found = find_target(cls, None, requires=requires, own=own)
    if target is None:
        raise PlanError(found)
    return target


def _is_ours(place: Path, name: str) -> bool:
    """Whether a file is that schema, of this version or another."""
    try:
        there = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(there, dict) and str(there.get("$id", "")).endswith(name)
