"""``order``, both forms, to uses with their places inside the string."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_plan import BAD_ORDER
from planner.plan.model import Use
from planner.source.text import Span

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_ARROW = re.compile(r"->")
_COMMA = re.compile(r",")


def uses_in(text: str, span: Span) -> tuple[list[Use], list[Diagnostic]]:
    """The names of ``a -> b.encode`` or ``a, b``, each with its own place in the string."""
    separator = _ARROW if "->" in text else _COMMA
    uses, found = [], []
    for start, part in _parts(text, separator):
        name = part.strip()
        place = span.part(start + len(part) - len(part.lstrip()), max(1, len(name)))
        if NAME.match(name):
            uses.append(use(name, place))
        else:
            found.append(_problem(name, separator is _ARROW, place))
    return uses, found


def use(name: str, span: Span) -> Use:
    """``vae.encode`` as component ``vae`` and entry ``encode``."""
    component, _, entry = name.strip().partition(".")
    return Use(component=component, entry=entry, span=span)


def _parts(text: str, separator: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    start = 0
    for mark in separator.finditer(text):
        yield start, text[start : mark.start()]
        start = mark.end()
    yield start, text[start:]


def _problem(name: str, arrows: bool, place: Span) -> Diagnostic:
    if not name:
        return finding(BAD_ORDER, "a name is missing", span=place, pointer="/order")
    other = "," if arrows else "->"
    hint = ""
    if arrows and "," in name:
        hint = f'use "->" throughout, or "{other}"'
    elif re.search(r"[-\s]", name):
        hint = f'did you mean "{re.sub(r"[-> ]+", " -> ", name)}"?'
    said: Any = f'"{name}" is no component and no entry point'
    return finding(BAD_ORDER, said, span=place, pointer="/order", hint=hint)
