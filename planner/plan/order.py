"""``order``, both forms, to uses with their places inside the string."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_plan import BAD_ORDER, TOO_MANY_STAGES
from planner.plan.model import Use
from planner.source.limits import NAME as LONGEST
from planner.source.limits import STAGES
from planner.source.text import SourceText, Span

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", re.ASCII)
_BLANK = 8
"""Lines: how far below one name the next is looked for."""


def uses_in(text: str, span: Span, source: SourceText | None) -> tuple[list[Use], list[Diagnostic]]:
    """The names of ``a -> b.encode`` or ``a, b``, each with its own place in the string.

    ``span``: the string's place in ``source``, which may write it over several lines.
    """
    separator = "->" if "->" in text else ","
    if (count := text.count(separator) + 1) > STAGES.most:
        said = f"the order has {count:,} names: at most {STAGES}"
        return [], [finding(TOO_MANY_STAGES, said, span=span, pointer="/order")]
    parts = list(_parts(text, separator))
    uses, found = [], []
    for (_, name), place in zip(parts, _places(text, span, source, parts), strict=True):
        if NAME.match(name) and len(name) <= LONGEST.most:
            uses.append(use(name, place))
        else:
            found.append(_problem(name, separator == "->", place))
    return uses, found


def use(name: str, span: Span) -> Use:
    """``vae.encode`` as component ``vae`` and entry ``encode``."""
    component, _, entry = name.strip().partition(".")
    return Use(component=component, entry=entry, span=span)


def _parts(text: str, separator: str) -> Iterator[tuple[int, str]]:
    """Each part without the spaces around it, and where it begins."""
    start = 0
    for part in text.split(separator):
        yield start + len(part) - len(part.lstrip()), part.strip()
        start += len(part) + len(separator)


def _places(text: str, span: Span, source: SourceText | None, parts: list[tuple[int, str]]) -> list[Span]:
    """Where each part stands: counted off where the source has the string as it is, else looked for."""
    if source is None or source.line(span.line)[span.column - 1 :].startswith(text):
        return [span.part(start, max(1, len(name))) for start, name in parts]
    line, column, places = span.line, span.column, []
    for _, name in parts:
        word = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])")
        for number in range(line, line + _BLANK):
            if hit := word.search(source.line(number), column - 1 if number == line else 0):
                places.append(Span(file=span.file, line=number, column=hit.start() + 1, width=len(name) or 1))
                line, column = number, hit.end() + 1
                break
        else:
            return [span for _ in parts]  # escapes, or a name over two lines
    return places


def _problem(name: str, arrows: bool, place: Span) -> Diagnostic:
    if not name:
        return finding(BAD_ORDER, "a name is missing", span=place, pointer="/order")
    if len(name) > LONGEST.most:
        said = f"a name of {len(name):,} characters: at most {LONGEST.most}"
        return finding(BAD_ORDER, said, span=place, pointer="/order")
    other = "," if arrows else "->"
    hint = ""
    if arrows and "," in name:
        hint = f'use "->" throughout, or "{other}"'
    elif re.search(r"[-\s]", name):
        hint = f'did you mean "{re.sub(r"[-> ]+", " -> ", name)}"?'
    what: Any = f'"{name}" is no component and no entry point'
    return finding(BAD_ORDER, what, span=place, pointer="/order", hint=hint)
