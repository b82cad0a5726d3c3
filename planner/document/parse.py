"""Text to nodes: YAML with the scalars of its 1.2 core schema, and none of its surprises.

``off``, ``yes``, ``012`` and ``1:30`` are text, duplicate keys are found, tags build nothing, aliases and
depth are bounded.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import yaml

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.table.p1_document import (
    DUPLICATE_KEY,
    EMPTY,
    NOT_A_MAPPING,
    NOT_TEXT,
    NOT_YAML,
    NUMBER_TOO_LONG,
    SEVERAL,
    TAG,
    TOO_MANY,
)
from planner.document.node import Node
from planner.source.limits import DEPTH, DIGITS, VALUES
from planner.source.text import SourceText, Span

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "seq", "map")}


def parse(source: SourceText) -> tuple[Node | None, list[Diagnostic]]:
    """The document in ``source``, or why there is none. Scalars of a ``--set`` are documents too."""
    reader = _Reader(source)
    try:
        return reader.document(), reader.found
    except _Stop as stop:
        return None, [*reader.found, stop.problem]
    except yaml.MarkedYAMLError as error:
        return None, [*reader.found, _not_yaml(source, error)]
    except yaml.reader.ReaderError as error:
        said = f"character {error.character!r} is not allowed in YAML"
        return None, [finding(NOT_TEXT, said, span=_at(source, error.position))]
    except (ValueError, RecursionError) as error:
        return None, [finding(NOT_YAML, str(error), span=Span(file=source.name, line=1, column=1))]


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, problem: Diagnostic) -> None:
        self.problem = problem


class _Reader:
    """Events to nodes, by recursive descent."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.found: list[Diagnostic] = []
        self._events: Iterator[Any] = yaml.parse(source.text, Loader=_LOADER)
        # Only \n ends a line here, as in editors; YAML's own count also takes \x85 and \u2028 for ends.
        self._starts = [0, *(mark.end() for mark in re.finditer("\n", source.text))]
        self._widths = [len(line.rstrip()) for line in source.text.split("\n")]
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self) -> Node:
        self._next(yaml.StreamStartEvent)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise _Stop(finding(EMPTY, "the file is empty", span=self._span(event)))
        node = self._node(next(self._events), 0)
        self._next(yaml.DocumentEndEvent)
        event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
            raise _Stop(finding(SEVERAL, "a second document begins here", span=self._span(event)))
        return node

    def _next(self, kind: type) -> Any:
        event = next(self._events)
        assert isinstance(event, kind), event
        return event

    def _node(self, event: Any, depth: int) -> Node:
        span = self._span(event)
        self._deepen(depth, span)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise _Stop(finding(NOT_YAML, f'no anchor "{event.anchor}" stands above', span=span))
            self._grow(_size(known), span)
            self._deepen(depth + _height(known), span)
            return known
        self._grow(1, span)
        tag = self._tag(event, span)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event, tag, span), span)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(tuple(self._items(depth)), span)
        else:
            node = Node(self._entries(depth), span)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> dict[str, tuple[Span, Node]]:
        entries: dict[str, tuple[Span, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            place = self._span(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _Stop(finding(NOT_A_MAPPING, "a key is text, and this is not", span=place))
            key = event.value
            node = self._node(next(self._events), depth + 1)
            if key in entries:
                first = entries[key][0].line
                self._say(
                    DUPLICATE_KEY, f'key "{key}" stands here again; the first is in line {first}', place
                )
            entries[key] = (place, node)
        return entries

    def _tag(self, event: Any, span: Span) -> str:
        if event.tag is None or event.tag == "!":
            return "str" if event.tag == "!" else ""
        name = _TAGS.get(event.tag)
        if name is None:
            shown = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _Stop(finding(TAG, f'tag "{shown}" is refused: a plan holds plain values', span=span))
        return name

    def _scalar(self, event: Any, tag: str, span: Span) -> Any:
        text: str = event.value
        if tag == "str" or (not tag and event.style):
            return text
        value = resolved(text)
        if value in (math.inf, -math.inf) and not _SPECIAL.match(text):
            self._say(NUMBER_TOO_LONG, f"{_short(text)} is out of range: at most {DIGITS}", span)
        if tag and tag != type(value).__name__.replace("NoneType", "null") and tag not in ("seq", "map"):
            self._say(NOT_YAML, f'"{text}" is tagged as {tag} and is none', span)
        return value

    def _grow(self, count: int, span: Span) -> None:
        self._count += count
        if self._count > VALUES.most:
            raise _Stop(finding(TOO_MANY, f"more than {VALUES}", span=span))

    def _deepen(self, depth: int, span: Span) -> None:
        if depth > DEPTH.most:
            raise _Stop(finding(TOO_MANY, f"more than {DEPTH}", span=span))

    def _say(self, code: Code, message: str, span: Span) -> None:
        self.found.append(finding(code, message, span=span))

    def _span(self, event: Any) -> Span:
        """A scalar's text, without its quotes; a collection's first line."""
        start, end = event.start_mark.index, event.end_mark.index
        line = bisect_right(self._starts, start)
        column = start - self._starts[line - 1] + 1
        rest = self._widths[line - 1] - column + 1
        one_line = start < end and bisect_right(self._starts, end) == line
        width = end - start if one_line else rest
        style = getattr(event, "style", None)
        if style in ("'", '"') and one_line and width == len(event.value) + 2 > 2:
            return Span(file=self.source.name, line=line, column=column + 1, width=width - 2)
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            width = rest
        return Span(file=self.source.name, line=line, column=column, width=max(1, width))


def resolved(text: str) -> Any:
    """A plain scalar's value by the core schema; the text itself where it is no other.

    A number of more than DIGITS characters is infinite: who reads it says so.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text) if len(text) <= DIGITS.most else math.inf
    if _FLOAT.match(text):
        return float(text) if len(text) <= DIGITS.most else math.inf
    if _SPECIAL.match(text):
        return float(text.replace(".", "").lower())
    if text.startswith(("0x", "0o")):
        try:
            return int(text, 0) if len(text) <= DIGITS.most else math.inf
        except ValueError:
            return text
    return text


def _size(node: Node) -> int:
    if isinstance(node.value, dict):
        return 1 + sum(_size(child) for _, child in node.value.values())
    if isinstance(node.value, tuple):
        return 1 + sum(map(_size, node.value))
    return 1


def _height(node: Node) -> int:
    if isinstance(node.value, dict):
        return 1 + max((_height(child) for _, child in node.value.values()), default=0)
    if isinstance(node.value, tuple):
        return 1 + max(map(_height, node.value), default=0)
    return 0


def _short(text: str) -> str:
    return text if len(text) <= DIGITS.most else text[:10] + "..." + text[-5:]


def _not_yaml(source: SourceText, error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    if mark and error.context_mark and not source.text[mark.index :].strip():
        mark = error.context_mark  # nothing stands at the end of the file: show what was left open
    span = _at(source, mark.index if mark else 0)
    said = ", ".join(filter(None, (error.context, error.problem))) or "not YAML"
    opened = _at(source, error.context_mark.index).line if error.context_mark else span.line
    hint = _hint(said, source.line(span.line), span.column)
    if opened < span.line and "escape" not in said:
        hint = f"it begins in line {opened}"
    return finding(NOT_YAML, said, span=span, hint=hint)


def _hint(said: str, line: str, column: int) -> str:
    """What people stumble over most in YAML, by the library's words for it."""
    if "escape" in said:
        return "use single quotes: a backslash is itself there"
    if "\t" in line[: column + 1]:
        return "indent with spaces: YAML takes no tabs there"
    if line[column - 1 : column] == ":":
        return "quote text that has a colon in it"
    return ""


def _at(source: SourceText, position: int) -> Span:
    before = source.text[:position]
    line = before.count("\n") + 1
    return Span(file=source.name, line=line, column=len(before) - (before.rfind("\n") + 1) + 1)
