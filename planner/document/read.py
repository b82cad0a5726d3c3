"""A file to a Document, with what it extends merged in and ``--set`` on top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.table.p1_document import EXTENDS_RING, NOT_A_MAPPING, NOT_A_PLAN, TOO_MANY
from planner.document.document import Document, document_from
from planner.document.file import is_named_as_plan, text_of
from planner.document.node import Node, merged, without_nulls
from planner.document.override import with_overrides
from planner.document.parse import parse
from planner.document.schema import check_part
from planner.source.limits import CHAIN
from planner.source.text import SourceText, Span


def read_document(
    path: str | Path | SourceText, overrides: Sequence[str] = ()
) -> tuple[Document | None, list[Diagnostic], tuple[SourceText, ...]]:
    """The document at ``path``, what was wrong, and the texts that were read (for lines and carets).

    Reads only that file and those that it extends; changes none. ``path`` may be a text that was read already
    (standard input): what it extends is relative to the folder in its name.
    """
    reading = _Reading()
    if isinstance(path, SourceText):
        node = reading.text(path, Path(path.name), ())
    else:
        node = reading.file(Path(path), None, ())
    sources = tuple(reading.sources)
    if node is None or errors(reading.found):
        return None, reading.found, sources
    parts = tuple(reading.parts) if len(reading.parts) > 1 or "extends" in reading.parts[0].values else ()
    document, found = with_overrides(document_from(node, sources, parts), overrides)
    if isinstance(document, Document):
        return document, [*reading.found, *found], document.sources
    return None, [*reading.found, *found], (*sources, document)


def document_of(source: SourceText) -> tuple[Document | None, list[Diagnostic]]:
    """A text that is no file as a document; it extends nothing."""
    node, found = parse(source)
    return (None if node is None else document_from(node, (source,))), found


class _Reading:
    """The texts read so far, each as a document of its own, and what was wrong with them."""

    def __init__(self) -> None:
        self.sources: list[SourceText] = []
        self.parts: list[Document] = []
        self.found: list[Diagnostic] = []

    def file(self, path: Path, said: Span | None, above: tuple[Path, ...]) -> Node | None:
        """A file's node with what it extends merged in. ``said``: where another file names it."""
        source, found = text_of(path, said)
        if source is None:
            self.found += found
            return None
        ours = (said is None and not path.is_symlink()) or is_named_as_plan(path)
        return self.text(source, path, above, None if ours else _no_plan(path, said))

    def text(
        self, source: SourceText, path: Path, above: tuple[Path, ...], instead: Diagnostic | None = None
    ) -> Node | None:
        """A text's node with what it extends merged in. ``instead``: what is said of it, in place of all that
        would show what is in it, where it is no plan."""
        node, found = _mapping(source)
        part = document_from(node, (source,)) if node is not None else None
        if instead is not None and (part is None or errors(found) or check_part(part)):
            self.found.append(instead)
            return None
        self.sources.append(source)
        self.found += found
        if node is None or part is None:
            return None
        self.parts.append(part)
        extends = (node.mapping or {}).get("extends")
        if extends is None or not isinstance(extends[1].value, str):
            return node  # the schema says what else is wrong with it
        return self._extended(path, node, extends[1], (*above, path))

    def _extended(self, path: Path, node: Node, extends: Node, above: tuple[Path, ...]) -> Node | None:
        base = path.parent / extends.value
        same = [p for p in above if os.path.normpath(p.absolute()) == os.path.normpath(base.absolute())]
        if same:
            ring = [*above[above.index(same[0]) :], base]
            names = " -> ".join(p.name for p in ring)
            said = f"plans extend each other in a ring: {names}"
            self.found.append(finding(EXTENDS_RING, said, span=extends.span))
            return None
        if len(above) > CHAIN.most:
            self.found.append(finding(TOO_MANY, f"more than {CHAIN}", span=extends.span))
            return None
        below = self.file(base, extends.span, above)
        if below is None:
            return None
        # Followed, and so no part of what it led to: what parts merge to is a whole plan.
        own = {key: entry for key, entry in (node.mapping or {}).items() if key != "extends"}
        return merged(without_nulls(below), Node(own, node.span))


def _mapping(source: SourceText) -> tuple[Node | None, list[Diagnostic]]:
    node, found = parse(source)
    if node is None or node.mapping is not None:
        return node, found
    kind = "a list" if isinstance(node.value, tuple) else "a single value"
    return None, [
        *found,
        finding(NOT_A_MAPPING, f"a plan is a mapping, and this is {kind}", span=node.span),
    ]


def _no_plan(path: Path, said: Span | None) -> Diagnostic:
    leads = f' (a link to "{os.path.realpath(path)}")' if path.is_symlink() else ""
    hint = "name it *.plan.yaml to see what is wrong with it"
    return finding(NOT_A_PLAN, f'"{path}"{leads} is no plan', span=said, hint=hint)
