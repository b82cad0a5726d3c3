"""The blocks of code of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from planner.docs.pages import body


@dataclass(frozen=True, slots=True)
class Block:
    """``file``: the name that it is written to; "" where it has none."""

    kind: str
    file: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    for token in MarkdownIt("commonmark").parse(body(page)):
        if token.type == "fence":
            kind, _, file = token.info.strip().partition(" ")
            yield Block(kind, file, token.content)
