"""A value with its place, and what a document does with such values: merge, change, flatten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from planner.source.text import Span

EITHER = (("order", "stages"), ("stages", "order"))
"""Two forms of one thing: who writes one takes the other away."""


@dataclass(frozen=True, slots=True)
class Node:
    """``value`` is a scalar, a tuple of nodes, or a dict of ``(key's place, node)`` by key."""

    value: Any
    span: Span

    @property
    def mapping(self) -> dict[str, tuple[Span, Node]] | None:
        """The entries of a mapping; None for anything else."""
        return self.value if isinstance(self.value, dict) else None


def merged(base: Node, over: Node) -> Node:
    """``over`` on top of ``base``: mappings merge by key, all else replaces, null removes.

    An ``order`` replaces ``stages`` and the other way round: they are two forms of one thing. A short
    form opens where a mapping goes on top of it: ``unet: stream`` is ``unet: {policy: stream}``.
    """
    return _merged(base, over, ())


def _merged(base: Node, over: Node, path: tuple[str, ...]) -> Node:
    above = over.mapping
    below = base.mapping if above is None else opened(base, path).mapping
    if below is None or above is None:
        return without_nulls(over)
    entries = dict(below)
    for one, other in EITHER if not path else ():
        if one in above:
            entries.pop(other, None)
    for key, (place, node) in above.items():
        if node.value is None:
            entries.pop(key, None)
        elif key in entries:
            entries[key] = (place, _merged(entries[key][1], node, (*path, key)))
        else:
            entries[key] = (place, without_nulls(node))
    return Node(entries, over.span)


def opened(node: Node, path: Sequence[str]) -> Node:
    """The mapping that a short form at ``path`` stands for; any other node as it is."""
    match path:
        case ["pipeline"]:
            key = "class"
        case ["components", _]:
            key = "policy"
        case _:
            return node
    return Node({key: (node.span, node)}, node.span) if isinstance(node.value, str) else node


def without_nulls(node: Node) -> Node:
    """Nothing is below, so a null has nothing to remove: it goes."""
    if node.mapping is None:
        return node
    kept = {k: (p, without_nulls(n)) for k, (p, n) in node.mapping.items() if n.value is not None}
    return Node(kept, node.span)


def flatten(node: Node) -> tuple[Any, dict[str, Span], dict[str, Span]]:
    """Plain values, and the places of values and of keys by JSON pointer."""
    spans: dict[str, Span] = {}
    key_spans: dict[str, Span] = {}

    def plain(at: Node, pointer: str) -> Any:
        spans[pointer] = at.span
        if isinstance(at.value, dict):
            made = {}
            for key, (place, child) in at.value.items():
                inner = f"{pointer}/{escaped(key)}"
                key_spans[inner] = place
                made[key] = plain(child, inner)
            return made
        if isinstance(at.value, tuple):
            return [plain(child, f"{pointer}/{i}") for i, child in enumerate(at.value)]
        return at.value

    return plain(node, ""), spans, key_spans


def parts_of(pointer: str) -> list[str]:
    """The keys of a JSON pointer (RFC 6901)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def escaped(key: str) -> str:
    """A key as RFC 6901 writes it in a pointer."""
    return key.replace("~", "~0").replace("/", "~1")
