"""``--set KEY=VALUE``: a path of keys and a YAML value, as if the file had said so."""

from __future__ import annotations

from collections.abc import Sequence

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p1_document import BAD_OVERRIDE, EMPTY
from planner.document.node import EITHER, Node, escaped, opened
from planner.document.parse import parse
from planner.source.text import SourceText, Span

FILE = "--set"
"""The name of the text that overrides stand in, one a line."""


def apply_overrides(
    node: Node, overrides: Sequence[str]
) -> tuple[Node, SourceText | None, tuple[str, ...], list[Diagnostic]]:
    """The node with every override applied in order, their text, their pointers, and what was wrong."""
    if not overrides:
        return node, None, (), []
    source = SourceText(name=FILE, text="\n".join(text.replace("\n", " ") for text in overrides))
    pointers = []
    found: list[Diagnostic] = []
    for number, text in enumerate(source.text.split("\n"), 1):
        path, sign, _ = text.partition("=")
        keys = path.strip().split(".")
        whole = Span(file=FILE, line=number, column=1, width=max(1, len(path)))
        if not sign or not all(keys):
            found.append(finding(BAD_OVERRIDE, f'expected KEY=VALUE, found "{text}"', span=whole))
            continue
        if keys[0] == "extends":
            said = 'the file\'s own "extends" is followed before anything is set'
            found.append(finding(BAD_OVERRIDE, said, span=whole))
            continue
        value, problems = _value(text, number, len(path) + 1)
        found += problems
        if value is None:
            continue
        try:
            node = _set(node, keys, value, whole, ())
        except _Bad as bad:
            found.append(finding(BAD_OVERRIDE, str(bad), span=whole))
            continue
        pointers.append("".join(f"/{escaped(key)}" for key in keys))
    return node, source, tuple(pointers), found


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
