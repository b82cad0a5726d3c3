"""A file to a Document: bounded, with what it extends merged in and ``--set`` on top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table.p1_document import (
    EXTENDS_RING,
    NOT_A_MAPPING,
    NOT_FOUND,
    NOT_TEXT,
    TOO_LARGE,
    TOO_MANY,
    UNREADABLE,
)
from planner.document.document import Document
from planner.document.node import Node, flatten, merged, without_nulls
from planner.document.override import apply_overrides
from planner.document.parse import parse
from planner.source.text import SourceText, Span

LIMIT = 1 << 20
"""Bytes: a larger file is not read."""
CHAIN = 8
"""Files: how long a chain of ``extends`` may be."""


def read_document(
    path: str | Path | SourceText, overrides: Sequence[str] = ()
) -> tuple[Document | None, list[Diagnostic], tuple[SourceText, ...]]:
    """The document at ``path``, what was wrong, and the texts that were read (for lines and carets).

    Reads only that file and those that it extends; changes none. ``path`` may be a text that was read already
    (standard input): what it extends is relative to the folder in its name.
    """
    reading = _Reading()
    given = path if isinstance(path, SourceText) else None
    node = reading.file(Path(given.name if given is not None else path), None, (), given)  # type: ignore[arg-type]
    sources = tuple(reading.sources)
    if node is None or errors(reading.found):
        return None, reading.found, sources
    node, source, pointers, found = apply_overrides(node, overrides)
    sources = (*sources, source) if source else sources
    if found:
        return None, [*reading.found, *found], sources
    values, spans, key_spans = flatten(node)
    document = Document(values=values, spans=spans, key_spans=key_spans, sources=sources, overrides=pointers)
    return document, reading.found, sources


def document_of(source: SourceText) -> tuple[Document | None, list[Diagnostic]]:
    """A text that is no file as a document; it extends nothing."""
    node, found = parse(source)
    if node is None:
        return None, found
    values, spans, key_spans = flatten(node)
    return Document(values=values, spans=spans, key_spans=key_spans, sources=(source,)), found


class _Reading:
    """The texts read so far, and what was wrong with them."""

    def __init__(self) -> None:
        self.sources: list[SourceText] = []
        self.found: list[Diagnostic] = []

    def file(
        self, path: Path, said: Span | None, above: tuple[Path, ...], given: SourceText | None = None
    ) -> Node | None:
        """A file's node with what it extends merged in. ``said``: where another file names it; ``given``: its
        text, where it was read already."""
        source = given if given is not None else self._text(path, said)
        if source is None:
            return None
        self.sources.append(source)
        node, found = parse(source)
        self.found += found
        if node is None:
            return None
        if node.mapping is None:
            kind = "a list" if isinstance(node.value, tuple) else "a single value"
            self.found.append(
                finding(NOT_A_MAPPING, f"a plan is a mapping, and this is {kind}", span=node.span)
            )
            return None
        extends = node.mapping.get("extends")
        if extends is None or not isinstance(extends[1].value, str):
            return node  # the schema says what else is wrong with it
        return self._extended(path, node, extends[1], (*above, path))

    def _extended(self, path: Path, node: Node, extends: Node, above: tuple[Path, ...]) -> Node | None:
        base = path.parent / extends.value
        same = [p for p in above if os.path.normpath(p.absolute()) == os.path.normpath(base.absolute())]
        if same:
            ring = [*above[above.index(same[0]) :], base]
            names = " -> ".join(p.name for p in ring)
            self.found.append(
                finding(EXTENDS_RING, f"plans extend each other in a ring: {names}", span=extends.span)
            )
            return None
        if len(above) > CHAIN:
            self.found.append(
                finding(TOO_MANY, f"more than {CHAIN} files extend each other", span=extends.span)
            )
            return None
        below = self.file(base, extends.span, above)
        return None if below is None else merged(without_nulls(below), node)

    def _text(self, path: Path, said: Span | None) -> SourceText | None:
        name = str(path)
        place = said or Span(file=name, line=1, column=1)
        try:
            with path.open("rb") as file:
                data = file.read(LIMIT + 1)
        except FileNotFoundError:
            near = _near(path)
            self.found.append(finding(NOT_FOUND, f'no file "{name}"', span=said, hint=near))
            return None
        except (OSError, ValueError) as error:
            why = "it is a folder" if os.path.isdir(path) else getattr(error, "strerror", None) or str(error)
            self.found.append(finding(UNREADABLE, f'cannot read "{name}": {why}', span=said))
            return None
        if len(data) > LIMIT:
            self.found.append(finding(TOO_LARGE, f'"{name}" is larger than 1 MiB', span=said))
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.found.append(
                finding(
                    NOT_TEXT,
                    f'"{name}" is not UTF-8 text: byte {error.start} is no part of it',
                    span=place,
                    hint="save it as UTF-8" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "",
                )
            )
            return None
        return SourceText(name=name, text=text.replace("\r\n", "\n").replace("\r", "\n"))


def _near(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir() if p.name.endswith((".yaml", ".yml"))]
    except OSError:
        return ""
    near = nearest(path.name, names)
    return f'did you mean "{path.with_name(near)}"?' if near else ""
