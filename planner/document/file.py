"""A file's text: regular files only, bounded, UTF-8."""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table.p1_document import NOT_FOUND, NOT_TEXT, TOO_LARGE, UNREADABLE
from planner.source.ends import as_text
from planner.source.limits import FILE
from planner.source.text import SourceText, Span

PLAN_ENDS = (".plan.yaml", ".plan.yml")
_NEAR = 10_000
"""Names of a folder that are looked through for one that was meant."""
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def text_of(path: Path, said: Span | None) -> tuple[SourceText | None, list[Diagnostic]]:
    """The text of a plan file, or why there is none. ``said``: where another file names it.

    Nothing is waited for: a pipe, a device or a folder is told and not read.
    """
    name = str(path)
    try:
        data = _bytes(path)
    except FileNotFoundError:
        return None, [finding(NOT_FOUND, f'no file "{name}"', span=said, hint=_near(path))]
    except (OSError, ValueError) as error:
        why = "it is a folder" if os.path.isdir(path) else getattr(error, "strerror", None) or str(error)
        return None, [finding(UNREADABLE, f'cannot read "{name}": {why}', span=said)]
    return decoded(data, name, said)


def decoded(data: bytes, name: str, said: Span | None) -> tuple[SourceText | None, list[Diagnostic]]:
    """The text that ``data`` is, called ``name``."""
    if len(data) > FILE.most:
        return None, [finding(TOO_LARGE, f'"{name}" has more than {FILE}', span=said)]
    try:
        written = data.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = finding(
            NOT_TEXT,
            f'"{name}" is not UTF-8 text: byte {error.start} is no part of it',
            span=said or Span(file=name, line=1, column=1),
            hint="save it as UTF-8" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "",
        )
        return None, [problem]
    return as_text(name, written), []


def is_named_as_plan(path: Path) -> bool:
    """Whether the file that ``path`` leads to, links followed, is called a plan."""
    try:
        return path.resolve().name.endswith(PLAN_ENDS)
    except (OSError, RuntimeError):
        return False


def _bytes(path: Path) -> bytes:
    """At most one byte more than FILE. Raises OSError, and ValueError for a path that none can have."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for test, name in _KINDS if test(mode)), "a device")
            raise OSError(f"it is {kind}")
        data = bytearray()
        while len(data) <= FILE.most and (more := os.read(descriptor, FILE.most + 1 - len(data))):
            data += more
        return bytes(data)
    finally:
        os.close(descriptor)


def _near(path: Path) -> str:
    try:
        names = [p.name for p in islice(path.parent.iterdir(), _NEAR) if p.name.endswith((".yaml", ".yml"))]
    except OSError:
        return ""
    near = nearest(path.name, names)
    return f'did you mean "{path.with_name(near)}"?' if near else ""
