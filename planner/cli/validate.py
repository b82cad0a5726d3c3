"""``plan validate``: everything that can be said of plans without a GPU, weights or the network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from planner.api import validate
from planner.cli.terminal import format_option, log, overrides_option, show, strict_option
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, finding
from planner.diagnostics.table.p0_tool import NO_PLANS
from planner.source.text import SourceText

PATTERN = "*.plan.yaml"


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE|DIR ...]")
@click.option("--target", metavar="CLASS|FOLDER", help="Check against this, not the plan's own pipeline.")
@format_option("text", "json", "sarif", "github")
@strict_option
@overrides_option
def validate_command(
    paths: tuple[Path, ...], target: str | None, form: str, strict: bool, overrides: tuple[str, ...]
) -> int:
    """Check plans: syntax, names, order, and whether they fit.

    A folder, by default the current one, is searched for files named *.plan.yaml.
    """
    found: list[Diagnostic] = []
    sources: dict[str, SourceText] = {}
    files = list(_files(paths or (Path(),)))
    for file in files:
        result = validate(file, target=target, overrides=overrides, strict=strict)
        found += result.diagnostics
        sources |= {source.name: source for source in result.sources}
        if form == "text":
            log(f"{file}: {_summary(result.diagnostics)}")
    return show(found, tuple(sources.values()), form)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Plan files, each folder's sorted. A file is taken whatever its name."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(
            Path(folder, name)
            for folder, folders, names in os.walk(path)
            for name in names
            if name.endswith(PATTERN[1:]) and not _hidden(folders)
        )
        if not inside:
            raise PlanError([finding(NO_PLANS, f'no file named {PATTERN} in "{path}"')])
        yield from inside


def _hidden(folders: list[str]) -> bool:
    """Keeps ``os.walk`` out of hidden folders; False, so that it can stand in a condition."""
    folders[:] = [name for name in folders if not name.startswith(".")]
    return False


def _summary(found: Iterable[Diagnostic]) -> str:
    counts = {s: sum(d.severity is s for d in found) for s in Severity}
    said = [f"{n} {s.value}{'s' if n > 1 else ''}" for s, n in counts.items() if n]
    return ", ".join(said) or "ok"
