"""Pieces of Markdown that pages made of the code are put together from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def fence(text: str, kind: str = "") -> str:
    """A block of code, whatever is in it."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown of one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def code(text: str) -> str:
    """Inline code."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def joined(*parts: str) -> str:
    """Blocks with a blank line between them, and a line's end."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
