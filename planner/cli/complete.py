"""What a shell completes (click's shell completion): codes, classes, plan files, the plans that ship."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem

_PLANS = (".plan.yaml", ".plan.yml")
_SEEN = 2000
"""Names of a folder that are looked at: a key was pressed, and somebody waits."""


def codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes of findings, by id and by name."""
    from planner.diagnostics.codes import all_codes

    known = all_codes().values()
    by_id = _named(((code.id, code.name) for code in known), incomplete.upper())
    # Names begin with letters that ids begin with too, and are many: only what is begun is completed.
    return by_id or _named(((code.name, code.id) for code in known), incomplete.lower())


def classes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Pipeline classes of the newest catalogue; else folders."""
    from planner.target.catalogue import Catalogue, versions

    names = Catalogue(versions()[0]).names()
    return _named(((name, "") for name in names), incomplete) or [CompletionItem(incomplete, type="dir")]


def plan_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Plan files beside what is typed and one folder down; where there are none, any file."""
    found = sorted({*_plans(incomplete)})
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def plans_and_codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What ``plan explain`` takes."""
    found = [CompletionItem(name) for name in sorted({*_plans(incomplete)})] + codes(ctx, param, incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def starters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The plans that ship."""
    from planner.cli.starters import names

    return _named(((name, "") for name in names()), incomplete)


def _named(words: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word, help=said or None) for word, said in words if word.startswith(incomplete)]


def _plans(incomplete: str) -> Iterator[str]:
    """Paths as they are typed: ``plans/fl`` gives ``plans/flux.plan.yaml``."""
    head, start = os.path.split(incomplete)
    for entry in _entries(Path(head or ".")):
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        if entry.name.endswith(_PLANS):
            yield os.path.join(head, entry.name)
        elif entry.is_dir():
            yield from (
                os.path.join(head, entry.name, inner.name)
                for inner in _entries(Path(entry.path))
                if inner.name.endswith(_PLANS)
            )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, _SEEN))
    except OSError:
        return []
