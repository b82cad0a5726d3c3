"""Findings of several plans as one list: what stands in a file that they share is told once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from planner.diagnostics.diagnostic import Diagnostic, by_place
from planner.diagnostics.table.p0_tool import UNUSED_IGNORE
from planner.source.text import SourceText

Looked = tuple[str, Sequence[Diagnostic], Sequence[SourceText]]
"""A plan's file, what was found, and the texts that were read for it."""

_NAMED = 3
"""Plans that are named; of more it is said how many."""


def once(checked: Iterable[Looked]) -> list[Diagnostic]:
    """Every finding once, by place. One that stands in another file than its plan's (what it extends,
    ``--set``) says in which plans it was found.

    A comment that silences something in one of the plans that read it is of use.
    """
    checked = list(checked)
    plans: dict[Diagnostic, list[str]] = {}
    for name, found, _ in checked:
        for problem in found:
            plans.setdefault(problem, []).append(name)
    readers: dict[str, set[str]] = {}
    for name, _, sources in checked:
        for source in sources:
            readers.setdefault(source.name, set()).add(name)
    return by_place(
        _told(problem, names)
        for problem, names in plans.items()
        if problem.code is not UNUSED_IGNORE
        or problem.span is None
        or readers.get(problem.span.file, set()) <= {*names}
    )


def _told(problem: Diagnostic, plans: Sequence[str]) -> Diagnostic:
    names = list(dict.fromkeys(plans))
    if problem.span is None or names == [problem.span.file]:
        return problem
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    where = f"in the plan{'s' if len(names) > 1 else ''} {listed}"
    return replace(problem, hint="; ".join(filter(None, (problem.hint, where))))
