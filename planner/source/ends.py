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
    lines = text.split("\n")
    found = dict.fromkeys(range(len(lines)), "")
    for block in SequenceMatcher(None, was.text.split("\n"), lines, autojunk=False).get_matching_blocks():
        for at in range(block.size):
            found[block.b + at] = ends[block.a + at] if block.a + at < len(ends) else ""
    made, above = [], ends[0]
    for at, line in enumerate(lines[:-1]):
        above = found[at] or above
        made.append(line + above)
    return mark + "".join((*made, lines[-1]))
