"""``# plan: ignore[P302]`` at the end of a line silences that line's findings of that code."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p0_tool import UNUSED_IGNORE
from planner.source.text import SourceText, Span

_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*plan:\s*ignore\[([^\]]*)\]")


def apply_ignores(found: Iterable[Diagnostic], sources: Iterable[SourceText]) -> list[Diagnostic]:
    """``found`` without what a comment silences, and a note for each comment that silences nothing.

    What keeps a file from being read at all (P1xx) is never silenced.
    """
    said = {span: code for source in sources for span, code in _said(source)}
    by_line: dict[tuple[str, int], list[Span]] = defaultdict(list)
    for span in said:
        by_line[span.file, span.line].append(span)
    used: set[Span] = set()
    kept = []
    for problem in found:
        place = problem.span
        beside = by_line.get((place.file, place.line), ()) if place else ()
        mine = [span for span in beside if said[span] in (problem.code.id, problem.code.name)]
        if mine and not problem.code.id.startswith("P1"):
            used.update(mine)
        else:
            kept.append(problem)
    unused = [(span, code) for span, code in said.items() if span not in used]
    return kept + [
        finding(UNUSED_IGNORE, f'nothing to ignore here: "{code}"', span=span) for span, code in unused
    ]


def _said(source: SourceText) -> Iterator[tuple[Span, str]]:
    for number, line in enumerate(source.text.split("\n"), 1):
        for comment in _COMMENT.finditer(line):
            at = comment.start(1)
            for part in comment[1].split(","):
                column = at + len(part) - len(part.lstrip()) + 1
                name = part.strip()
                yield Span(file=source.name, line=number, column=column, width=max(1, len(name))), name
                at += len(part) + 1
