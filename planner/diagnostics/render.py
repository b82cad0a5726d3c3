"""Findings as text for people: the line, a caret beneath the value, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from planner.diagnostics.diagnostic import Diagnostic, Severity
from planner.source.text import SourceText, Span
from planner.source.visible import REPLACEMENT, columns, hidden, visible

LONGEST = 160
"""Characters: of a longer line only the part around the caret is shown."""

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def text(
    found: Iterable[Diagnostic],
    sources: Iterable[SourceText] = (),
    *,
    colour: bool = False,
    encoding: str = "utf-8",
) -> str:
    """``file:line:col: message [P302 unknown-component]``, the line, a caret, and what would help.

    ``colour``: with a terminal's escapes; ``encoding``: of where it goes, so that the caret stays beneath
    the value when a character before it cannot be shown there.
    """
    known = {source.name: source for source in sources}
    ink = Ink(colour)
    return "".join(
        f"{line}\n" for problem in ordered(found) for line in _lines(problem, known, ink, encoding)
    )


def ordered(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place, then by code; what has no place first."""
    return sorted(
        found,
        key=lambda d: ((d.span.file, d.span.line, d.span.column) if d.span else ("", 0, 0), d.code.id),
    )


class Ink:
    """Paints words, or leaves them as they are."""

    _COLOURS: ClassVar = {"error": "1;31", "warning": "1;33", "note": "1;36", "place": "1", "help": "32"}

    def __init__(self, on: bool) -> None:
        """``on``: there is a terminal that shows it."""
        self._on = on

    def __call__(self, text: str, how: str) -> str:
        """``how``: an error, a warning, a note, a place or a help."""
        return f"\x1b[{self._COLOURS[how]}m{text}\x1b[0m" if self._on and text else text


def _lines(problem: Diagnostic, known: dict[str, SourceText], ink: Ink, encoding: str) -> Iterator[str]:
    span, level = problem.span, LEVELS[problem.severity]
    place = visible(f"{span.file}:{span.line}:{span.column}:") + " " if span else ""
    weight = "" if problem.severity is Severity.ERROR else f"{level}: "
    code = ink(f"[{problem.code}]", level)
    yield f"{ink(place, 'place')}{ink(weight, level)}{visible(problem.message)} {code}"
    hint = ink(visible(problem.hint), "help")
    if span is not None and span.file in known and (line := known[span.file].line(span.line)).strip():
        number = str(span.line)
        margin = " " * len(number)
        line, span = _clipped(line, span)
        shown = [_shown(c, encoding) for c in line]
        yield f"{number} | {''.join(shown)}"
        yield f"{margin} | {_caret(shown, span, ink, level)}"
        if hint:
            yield f"{margin} = {hint}"
    elif hint:
        yield f"  = {hint}"


def _shown(character: str, encoding: str) -> str:
    """In a line of the file: as wide as it was, where that can be."""
    if hidden(character):
        character = REPLACEMENT
    try:
        character.encode(encoding)
    except UnicodeError:
        return "?" * max(1, columns(character))
    return character


def _clipped(line: str, span: Span) -> tuple[str, Span]:
    """At most LONGEST characters of the line, and where the place is in them."""
    if len(line) <= LONGEST:
        return line, span
    start = max(0, min(span.column - 1 - LONGEST // 3, len(line) - LONGEST))
    part = line[start : start + LONGEST]
    before = "…" if start else ""
    after = "…" if start + LONGEST < len(line) else ""
    column = span.column - start + len(before)
    width = max(1, min(span.width, start + LONGEST - span.column + 1))
    return before + part + after, Span(file=span.file, line=span.line, column=column, width=width)


def _caret(shown: Sequence[str], span: Span, ink: Ink, level: str) -> str:
    """Under the value: tabs stay tabs, and wide characters take two columns."""
    before, inside = shown[: span.column - 1], shown[span.column - 1 :][: span.width]
    pad = "".join("\t" if c == "\t" else " " * _wide(c) for c in before)
    return pad + ink("^" + "~" * (max(1, sum(map(_wide, inside))) - 1), level)


def _wide(text: str) -> int:
    return sum(map(columns, text))
