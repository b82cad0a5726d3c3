"""Text from a file, a name or a library, as it may be shown: nothing in it steers a terminal or hides."""

from __future__ import annotations

import json
import unicodedata

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories without a shape of their own: controls (ESC, NUL), formats (marks and overrides of
writing direction, zero-width joiners, tags), lone surrogates, private and unassigned ones, ends of lines."""
REPLACEMENT = "\ufffd"


def hidden(character: str) -> bool:
    """It has no shape of its own. The tab has: it moves to the right."""
    return character != "\t" and unicodedata.category(character) in HIDDEN


def visible(text: str, indent: str = "    ") -> str:
    r"""``text`` with what is hidden escaped (``\x1b``, ``\u202e``); lines after the first are indented, so
    that none of them looks like a line of ours."""
    return escaped(text).replace("\n", "\n" + indent)


def escaped(text: str) -> str:
    """The same, with its lines as they are: for a text of ours in which others' words stand."""
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if c != "\n" and hidden(c) else c for c in text)


def in_json(text: str) -> str:
    """A JSON text with what is hidden in its strings escaped as JSON does it."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if c != "\n" and hidden(c) else c for c in text)


def columns(character: str) -> int:
    """Columns of a terminal that a visible character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
