"""A plan that is named on the command line: a file, or ``-`` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from planner.diagnostics.diagnostic import PlanError
from planner.diagnostics.place import STDIN
from planner.document.file import decoded
from planner.source.limits import FILE
from planner.source.text import SourceText


def source_of(path: Path | str) -> Path | SourceText:
    """``path``, or the text of standard input, whose paths are relative to the current folder.

    Raises PlanError for what is no text, or too much.
    """
    if str(path) != "-":
        return Path(path)
    most = FILE.most + 1
    data = sys.stdin.buffer.read(most) if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    text, found = decoded(data, STDIN, None)
    if text is None:
        raise PlanError(found)
    return text
