"""A plan that is named on the command line: a file, or ``-`` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.place import STDIN
from planner.diagnostics.table.p1_document import NOT_TEXT, TOO_LARGE
from planner.document.read import LIMIT
from planner.source.text import SourceText


def source_of(path: Path | str) -> Path | SourceText:
    """``path``, or the text of standard input, whose paths are relative to the current folder.

    Raises PlanError for what is no text, or too much.
    """
    if str(path) != "-":
        return Path(path)
    data = sys.stdin.buffer.read(LIMIT + 1) if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    if len(data) > LIMIT:
        raise PlanError([finding(TOO_LARGE, f'"{STDIN}" is larger than 1 MiB')])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f'"{STDIN}" is not UTF-8 text: byte {error.start} is no part of it'
        raise PlanError([finding(NOT_TEXT, said)]) from error
    return SourceText(name=STDIN, text=text.replace("\r\n", "\n").replace("\r", "\n"))
