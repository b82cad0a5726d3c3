"""A YAML file as plain values, with the place of every key and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.document.node import Node, flatten
from planner.source.text import SourceText, Span

NOTHING = Node({}, Span(file="", line=1, column=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Values (dict, list, str, int, float, bool, None) and where each stands.

    ``spans`` and ``key_spans`` are keyed by JSON pointer (``/stages/0/runs/1``, "" for the root);
    ``sources`` are all texts read (the file first, then what it extends, then ``--set``), for carets and
    ignores. ``node`` is what the values were read from, for ``--set`` to go on top of, and ``overrides`` what
    was set already. ``parts`` are the files that it was merged from, each as it is written; none for one that
    extends nothing.
    """

    values: Mapping[str, Any]
    spans: Mapping[str, Span]
    key_spans: Mapping[str, Span]
    sources: tuple[SourceText, ...]
    node: Node = NOTHING
    parts: tuple[Document, ...] = ()
    overrides: tuple[str, ...] = ()


def document_from(
    node: Node,
    sources: tuple[SourceText, ...],
    parts: tuple[Document, ...] = (),
    overrides: tuple[str, ...] = (),
) -> Document:
    """The document that a mapping's ``node`` stands for."""
    values, spans, key_spans = flatten(node)
    return Document(
        values=values,
        spans=spans,
        key_spans=key_spans,
        sources=sources,
        node=node,
        parts=parts,
        overrides=overrides,
    )
