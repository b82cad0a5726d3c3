"""The arguments in a docstring's ``Args:`` section, with the types that it says they have."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Kwargs|Keyword Args|Other Parameters):?\s*$")
_ENTRY = re.compile(r"^[`*]*([A-Za-z_]\w*)[`*]*\s*(\(|:)")
_END = re.compile(
    r",?\s*\*?optional\*?.*|,?\s*defaults?\b.*|,?\s*\*?required\*?.*", re.IGNORECASE | re.DOTALL
)


def documented(docstring: str) -> dict[str, tuple[str, ...]]:
    """Types, as written, by argument; none where the entry says none.

    ``docstring`` in the form of ``inspect.cleandoc``: entries are those lines of the section that are
    indented as its first is, ``name (`type` or `type`, *optional*, defaults to 1): ...``.
    """
    found: dict[str, tuple[str, ...]] = {}
    lines = docstring.split("\n")
    for at, line in enumerate(lines):
        if _SECTION.match(line.strip()):
            for name, types in _entries(lines[at + 1 :], _indent(line)):
                found.setdefault(name, types)
    return found


def _entries(lines: list[str], above: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    first = next((line for line in lines if line.strip()), "")
    depth = _indent(first)
    if depth <= above and above:
        return
    for at, line in enumerate(lines):
        if line.strip() and _indent(line) < depth:
            return
        if line.strip() and _indent(line) == depth and (entry := _ENTRY.match(line.strip())):
            text = "\n".join((line.strip(), *lines[at + 1 : at + 6]))
            inside = _bracketed(text[entry.end(2) - 1 :]) if entry[2] == "(" else ""
            yield entry[1], tuple(_types(inside))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _bracketed(text: str) -> str:
    """What stands in the bracket that ``text`` begins with."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return text[1:at]
    return ""


def _types(text: str) -> Iterator[str]:
    said = " ".join(_END.sub("", text).split())
    marked = re.findall(r"`+([^`]+)`+", said)
    yield from marked or ([said] if said else [])
