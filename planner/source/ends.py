"""A text that is written back into its file: the mark of UTF-8 and the ends of lines are the file's own."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from planner.source.text import SourceText

BOM = "\ufeff"
_END = re.compile("\r\n|\r|\n")


def as_text(name: str, written: str) -> SourceText:
    """``written``, what a file has, as it is read: without a mark of UTF-8, lines ended by newlines."""
    text = _END.sub("\n", written.removeprefix(BOM))
    return SourceText(name=name, text=text, written="" if text == written else written)


def as_in(text: str, was: SourceText) -> str:
    """``text``, made of that of ``was``, for its file. Lines that are kept end as they did, new ones as the
    one above."""
    if not was.written:
        return text
    mark = BOM if was.written.startswith(BOM) else ""
    ends = _END.findall(was.written)
    if len({*ends}) < 2:
        return mark + (text.replace("\n", ends[0]) if ends else text)
    before, lines = was.text.split("\n"), text.split("\n")
    ends.append("")  # what follows the last end has none
    found = dict.fromkeys(range(len(lines)), "")
    first = _same(before, lines)  # of equal lines, those are kept that lie as far from the change
    last = _same(before[first:][::-1], lines[first:][::-1])
    found |= {at: ends[at] for at in range(first)}
    found |= {len(lines) - at: ends[len(before) - at] for at in range(1, last + 1)}
    old, new = before[first : len(before) - last], lines[first : len(lines) - last]
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        for at in range(first, first + block.size):
            found[block.b + at] = ends[block.a + at]
    made, above = [], ends[0]
    for at, line in enumerate(lines[:-1]):
        above = found[at] or above
        made.append(line + above)
    return mark + "".join((*made, lines[-1]))


def _same(one: list[str], other: list[str]) -> int:
    """With how many equal lines both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
