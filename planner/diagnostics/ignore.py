"""``# plan: ignore[P302]`` at the end of a line silences that line's findings of that code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p0_tool import UNUSED_IGNORE
from planner.source.limits import LISTED
from planner.source.text import SourceText, Span

_Place = tuple[str, int, str]
"""A file, a line and the name of a code."""
_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*+plan:\s*+ignore\[([^\[\]]*+)\]")
"""A comment without its end is tried up to where the next begins, and not to the end of the line: what is
tried is then as long as the line, however many there are."""


def apply_ignores(found: Iterable[Diagnostic], sources: Iterable[SourceText]) -> list[Diagnostic]:
    """``found`` without what a comment silences, and a note for each code of a line that silences nothing.

    What keeps a file from being read at all (P1xx) is never silenced.
    """
    said = {span: code for source in sources for span, code in _said(source)}
    first: dict[_Place, Span] = {}
    for span, code in said.items():
        first.setdefault((span.file, span.line, code), span)
    used: set[_Place] = set()
    kept = []
    for problem in found:
        mine = {place for place in _places(problem) if place in first}
        if mine and not problem.code.id.startswith("P1"):
            used |= mine
        else:
            kept.append(problem)
    unused = [(place[2], span) for place, span in first.items() if place not in used]
    notes = [
        finding(UNUSED_IGNORE, f'nothing to ignore here: "{code}"', span=span)
        for code, span in unused[: LISTED.most]
    ]
    if len(unused) > LISTED.most:
        more = f"nothing to ignore of {len(unused) - LISTED.most:,} more codes"
        notes.append(finding(UNUSED_IGNORE, more, span=unused[LISTED.most][1]))
    return kept + notes


def _places(problem: Diagnostic) -> Iterator[_Place]:
    """The line of a finding with each name of its code."""
    if problem.span is not None:
        for name in (problem.code.id, problem.code.name):
            yield problem.span.file, problem.span.line, name


def _said(source: SourceText) -> Iterator[tuple[Span, str]]:
    for number, line in enumerate(source.text.split("\n"), 1):
        for comment in _COMMENT.finditer(line):
            at = comment.start(1)
            for part in comment[1].split(","):
                column = at + len(part) - len(part.lstrip()) + 1
                name = part.strip()
                yield Span(file=source.name, line=number, column=column, width=max(1, len(name))), name
                at += len(part) + 1
