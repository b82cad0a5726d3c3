"""A key set in the text of a YAML file, all else left as it is written: comments, order, layout.

Round-trip libraries write a file anew and change its layout; here only what is set is put in, at the places
that YAML's own parser gives. ``without_entry`` and ``with_text`` undo that to the byte.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MARK = "# fit: "
"""How a line begins that ``plan fit`` wrote and may write anew."""
INDENT = "  "
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one that plans are read with: another may refuse what it takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value in a text: as it is ``written`` there; ``names``: its keys, where it is a mapping;
    ``flow``: whether it is one within braces."""

    written: str
    names: tuple[str, ...]
    flow: bool


def without_marks(text: str) -> str:
    """Without the lines that an earlier fit wrote for people: comments, and no text that looks like them."""
    kept = [line for line, marked in _marked(text) if not marked]
    ends = not text or text.endswith("\n") or not kept
    return "".join(kept) if ends else "".join(kept).removesuffix("\n")


def marks(text: str) -> Iterator[str]:
    """What those lines say, each without its beginning."""
    yield from (line.strip().removeprefix(MARK) for line, marked in _marked(text) if marked)


def entry_at(text: str, path: Sequence[str]) -> Entry | None:
    """What ``text`` has at ``path``; None where it has no such key."""
    above = _above_of(text, path)
    if above is None:
        return None
    node = above[1]
    inner = node.value if isinstance(node, yaml.MappingNode) else ()
    written = text[node.start_mark.index : _end(text, node)]
    return Entry(written, tuple(key.value for key, _ in inner), bool(getattr(node, "flow_style", False)))


def with_text(text: str, path: Sequence[str], written: str) -> str | None:
    """``text`` with what stood at ``path`` before ``with_value`` wrote there; None where nothing is there."""
    above = _above_of(text, path)
    if above is None:
        return None
    mapping, node = above[0], above[1]
    start = node.start_mark.index
    gap = not written and not mapping.flow_style and text[start - 1 : start] == " "
    return text[: start - gap] + written + text[_end(text, node) :]


def without_entry(text: str, path: Sequence[str]) -> str | None:
    """``text`` without what ``with_value`` put in at ``path``; None where more would go, such as a comment,
    or it is no addition."""
    above = _above_of(text, path)
    if above is None:
        return None
    mapping, node, key = above
    start, end = key.start_mark.index, _end(text, node)
    if mapping.flow_style:
        before = [_end(text, value) for name, value in mapping.value if name.start_mark.index < start]
        behind = [name.start_mark.index for name, _ in mapping.value if name.start_mark.index > start]
        if before:
            return text[: max(before)] + text[end:] if text[max(before) : start] == ", " else None
        end, comma = (min(behind), ", ") if behind else (end, "")
        return text[:start] + text[end:] if text[:end].endswith(comma) else None
    begin, finish = text.rfind("\n", 0, start) + 1, _line_end(text, end)
    if text[begin:start].strip() or text[end:finish].strip() or "#" in text[start:end]:
        return None
    kept = text[:begin] + text[finish:]
    return kept if text[:finish].endswith("\n") else kept.removesuffix("\n")


def without_key(text: str, path: Sequence[str]) -> str:
    """``text`` without the key at ``path``, its value, that value's comments, and mappings in blocks that
    would be left empty; as it was where there is no such key. A short form (``unet: stream``) goes with what
    it is short for."""
    above = _above_of(text, path)
    if above is None:
        outer = _above_of(text, path[:-1]) if path[-1] == _short(len(path)) else None
        return text if outer is None or not outer[1].value else without_key(text, path[:-1])
    mapping, node, key = above
    if len(path) > 1 and len(mapping.value) == 1 and not mapping.flow_style:
        return without_key(text, path[:-1])
    start, end = key.start_mark.index, _end(text, node)
    if not mapping.flow_style:
        return text[: text.rfind("\n", 0, start) + 1] + text[_line_end(text, end) :]
    before = [_end(text, value) for name, value in mapping.value if name.start_mark.index < start]
    behind = re.compile(r"\s*,\s*").match(text, end)
    if before:
        return text[: max(before)] + text[end:]
    return text[:start] + text[end if behind is None else behind.end() :]


def with_value(text: str, path: Sequence[str], value: str, said: str = "") -> str:
    """``text`` with ``value`` (YAML, on one line) at ``path``, in place of what is there; ``said``: a comment
    above it. A short form on the way (``unet: stream``) is opened as ``policy``; ``pipeline``'s as
    ``class``, and replaced where ``path`` is the key that it is short for."""
    root = yaml.compose(text, Loader=LOADER)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("no mapping")
    node, rest, top = root, [*path], root.start_mark.index
    while True:
        found = next(((k, v) for k, v in node.value if k.value == rest[0]), None)
        if found is None:
            return _added(text, node, rest, value, said, top)
        key, there = found
        top = top if node.flow_style else key.start_mark.index
        rest = rest[1:]
        if not rest:
            return _replaced(text, there, value, said, key.start_mark.index, top, flow=bool(node.flow_style))
        if isinstance(there, yaml.MappingNode):
            node = there
            continue
        short = _short(len(path) - len(rest) + 1)
        nothing = there.tag.endswith(":null") or rest == [short]
        before = "" if nothing else text[there.start_mark.index : there.end_mark.index]
        opened = f"{{{short}: {before}, {_flow(rest, value)}}}" if before else f"{{{_flow(rest, value)}}}"
        return _replaced(text, there, opened, said, key.start_mark.index, top, flow=bool(node.flow_style))


def with_comment(text: str, path: Sequence[str], said: str) -> str:
    """``text`` with a comment above the line of the key at ``path``, or of the first of its keys that is
    there; at the end of the text where none is."""
    node, at = yaml.compose(text, Loader=LOADER), len(text)
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((k, v) for k, v in node.value if k.value == name), None)
        if found is None:
            break
        key, there = found
        at = at if node.flow_style else key.start_mark.index
        if not isinstance(there, yaml.MappingNode):
            break
        node = there
    return _above(text, at, said)


def with_head(text: str, lines: Sequence[str]) -> str:
    """``text`` with comments after those at its top."""
    there = _lines(text)
    at = next((n for n, line in enumerate(there) if not line.startswith("#")), len(there))
    return "".join((*there[:at], *(f"{MARK}{line}\n" for line in lines), *there[at:]))


def _short(depth: int) -> str:
    """The key that a plain value is short for, where a mapping of keys at this depth (from 1) could be."""
    return "class" if depth == len(("pipeline", "class")) else "policy"


def _flow(rest: Sequence[str], value: str) -> str:
    made = value
    for name in reversed(rest[1:]):
        made = f"{{{name}: {made}}}"
    return f"{rest[0]}: {made}"


def _replaced(text: str, node: yaml.Node, value: str, said: str, key: int, top: int, *, flow: bool) -> str:
    start, end = node.start_mark.index, _end(text, node)
    gap = " " if start == end and text[start - 1 : start] != " " else ""
    made = text[:start] + gap + value + text[end:]
    return _above(made, top if flow else key, said) if said else made


def _added(text: str, node: yaml.MappingNode, rest: Sequence[str], value: str, said: str, top: int) -> str:
    if node.flow_style:
        at = node.start_mark.index + 1
        if node.value:  # what follows the last value may be a comma, and comments
            at = max(_end(text, part) for part in node.value[-1])
        made = text[:at] + (", " if node.value else "") + _flow(rest, value) + text[at:]
        return _above(made, top, said) if said else made
    column = node.value[0][0].start_mark.column
    at = _line_end(text, max(_end(text, v) for _, v in node.value))
    at = _behind_comments(text, at, column)
    pad = " " * column
    lines = [f"{pad}{MARK}{line}" for line in said.splitlines()]
    if len(rest) > 2:  # components: name: {key: value}
        lines = [f"{pad}{rest[0]}:"] + [f"{pad}{INDENT}{MARK}{line}" for line in said.splitlines()]
        lines.append(f"{pad}{INDENT}{_braced(rest[1:], value)}")
    else:
        lines.append(pad + _braced(rest, value))
    return _put(text, at, lines)


def _braced(rest: Sequence[str], value: str) -> str:
    return f"{rest[0]}: {value}" if len(rest) == 1 else f"{rest[0]}: {{{_flow(rest[1:], value)}}}"


def _end(text: str, node: yaml.Node) -> int:
    """Behind the last character of a value: a block's own end mark lies behind blank lines and comments."""
    if node.end_mark.index <= node.start_mark.index:
        return int(node.start_mark.index)
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False):
        end = int(node.end_mark.index)
        return len(text[:end].rstrip()) if isinstance(node, yaml.ScalarNode) else end
    children = [v for _, v in node.value] if isinstance(node, yaml.MappingNode) else node.value
    return max((_end(text, child) for child in children), default=int(node.start_mark.index))


def _line_end(text: str, at: int) -> int:
    """Behind the line, its comment with it."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _behind_comments(text: str, at: int, column: int) -> int:
    """Behind comments that stand deeper than ``column``: they are of what is above."""
    deeper = re.compile(rf"(?:[ \t]*\n)* {{{column + 1},}}#[^\n]*(?:\n|$)")
    while found := deeper.match(text, at):
        at = found.end()
    return at


def _lines(text: str) -> list[str]:
    """With their ends; only a newline is one, as in an editor."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _many_lines(text: str) -> Iterator[tuple[int, int]]:
    """Of scalars that take several lines: the first, counted from 0, and the one behind the last."""
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.ScalarEvent):
            begin, end = (getattr(mark, "index", 0) for mark in (event.start_mark, event.end_mark))
            last = bisect_right(starts, end) - 1
            yield bisect_right(starts, begin) - 1, last + (end > starts[last])


def _above(text: str, at: int, said: str) -> str:
    start = text.rfind("\n", 0, at) + 1 if at < len(text) or text.endswith("\n") else at
    pad = text[start:at] if not text[start:at].strip() else ""
    return _put(text, start, [f"{pad}{MARK}{line}" for line in said.splitlines()])


def _put(text: str, at: int, lines: Sequence[str]) -> str:
    """``text`` with ``lines`` where one begins, or behind all; it ends in a newline if it did."""
    if not lines:
        return text
    made = "".join(f"{line}\n" for line in lines)
    return text[:at] + (made if not at or text[at - 1] == "\n" else f"\n{made[:-1]}") + text[at:]


def _above_of(text: str, path: Sequence[str]) -> tuple[yaml.MappingNode, Any, Any] | None:
    """The mapping that has ``path``'s last key, its value, the key."""
    node = yaml.compose(text, Loader=LOADER)
    above = None
    for name in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        found = next(((k, v) for k, v in node.value if k.value == name), None)
        if found is None:
            return None
        above = node, found[1], found[0]
        node = found[1]
    return above


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether a fit wrote it for people."""
    inside = {line for first, last in _many_lines(text) for line in range(first + 1, last)}
    for number, line in enumerate(_lines(text)):
        yield line, number not in inside and line.lstrip().startswith(MARK.rstrip())
