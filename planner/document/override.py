"""``--set KEY=VALUE``: a path of keys and a YAML value, as if the file had said so."""

from __future__ import annotations

from collections.abc import Sequence

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p1_document import BAD_OVERRIDE, EMPTY
from planner.document.document import Document, document_from
from planner.document.node import EITHER, Node, opened, without_nulls
from planner.document.parse import parse
from planner.source.limits import DEPTH
from planner.source.text import SourceText, Span

FILE = "--set"
"""The name of the text that overrides stand in, one a line."""


def with_overrides(
    document: Document, overrides: Sequence[str]
) -> tuple[Document | SourceText, list[Diagnostic]]:
    """``document`` with every override on top, in order, and after those that it has; or the text that the
    overrides stand in, and what was wrong with them.

    A document's own file is not read again: what was set means the same whatever became of it.
    """
    if not overrides:
        return document, []
    before = document.overrides
    texts = (*before, *(text.replace("\r", " ").replace("\n", " ") for text in overrides))
    source = SourceText(name=FILE, text="\n".join(texts))
    node, found = document.node, []
    for number, text in enumerate(texts[len(before) :], len(before) + 1):
        changed, problems = _applied(node, text, number)
        found += problems
        node = changed or node
    if found:
        return source, found
    files = document.sources[:-1] if before else document.sources
    return document_from(node, (*files, source), document.parts, texts), []


def _applied(node: Node, text: str, number: int) -> tuple[Node | None, list[Diagnostic]]:
    """``node`` with line ``number`` of the overrides, ``text``, on top."""
    path, sign, _ = text.partition("=")
    keys = path.strip().split(".")
    whole = Span(file=FILE, line=number, column=1, width=max(1, len(path)))

    def bad(said: str) -> tuple[None, list[Diagnostic]]:
        return None, [finding(BAD_OVERRIDE, said, span=whole)]

    if not sign or not all(keys):
        return bad(f'expected KEY=VALUE, found "{text}"')
    if keys[0] == "extends":
        return bad('the file\'s own "extends" is followed before anything is set')
    if len(keys) > DEPTH.most:
        return bad(f"more than {DEPTH}")
    value, problems = _value(text, number, len(path) + 1)
    if value is None:
        return None, problems
    try:
        return _set(node, keys, without_nulls(value), whole, ()), problems
    except _Bad as error:
        return bad(str(error))


class _Bad(Exception):
    """A path that leads nowhere."""


def _value(text: str, number: int, offset: int) -> tuple[Node | None, list[Diagnostic]]:
    """The value, its places moved to where it stands in the override."""
    if not text[offset:].strip():
        return Node(None, Span(file=FILE, line=number, column=offset, width=1)), []
    # Spaces in place of the path and lines above keep YAML's own marks right.
    padded = SourceText(name=FILE, text="\n" * (number - 1) + " " * offset + text[offset:])
    node, found = parse(padded)
    if any(problem.code is EMPTY for problem in found):
        place = Span(file=FILE, line=number, column=offset + 1, width=len(text) - offset)
        return None, [finding(BAD_OVERRIDE, "the value is a comment: a # needs quotes", span=place)]
    return node, found


def _set(node: Node, keys: Sequence[str], value: Node, place: Span, above: tuple[str, ...]) -> Node:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, tuple):
        if not key.isdecimal() or int(key) >= len(node.value):
            raise _Bad(f'"{".".join(above)}" has {len(node.value)} entries: no entry "{key}"')
        items = list(node.value)
        items[int(key)] = _set(items[int(key)], rest, value, place, (*above, key))
        return Node(tuple(items), node.span)
    entries = opened(node, above).mapping
    if entries is None:
        raise _Bad(f'"{".".join(above)}" is {node.value!r}, and has no "{key}"')
    made = dict(entries)
    for one, other in EITHER if not above else ():
        if key == one and value.value is not None:
            made.pop(other, None)
    if not rest and value.value is None:
        made.pop(key, None)
        return Node(made, node.span)
    below = made[key][1] if key in made else Node({}, value.span)
    made[key] = (place, _set(below, rest, value, place, (*above, key)))
    return Node(made, node.span)
