"""A text and the places in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """A place in a file: ``line`` and ``column`` count from 1, ``width`` counts characters."""

    file: str
    line: int
    column: int
    width: int = 1

    def part(self, offset: int, width: int) -> Span:
        """A place inside this one, ``offset`` characters in (a name inside an order string)."""
        return Span(file=self.file, line=self.line, column=self.column + offset, width=width)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """A file's name, as the user wrote it, and its text; ``written``: as the file has it, with its mark of
    UTF-8 and its own ends of lines, empty where that is ``text``."""

    name: str
    text: str
    written: str = field(default="", repr=False, compare=False)

    def line(self, number: int) -> str:
        """Line ``number``, counted from 1, without its end; empty when there is none."""
        lines = _lines(self.text)
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@lru_cache(maxsize=8)  # every value of a file asks for its line: splitting each time is quadratic
def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n"))
