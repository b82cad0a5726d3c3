"""Where a finding is, as tools outside of here name a place: a URI, and what stays the same in other runs."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from urllib.parse import quote

from planner.diagnostics.diagnostic import Diagnostic
from planner.source.text import SourceText, Span

STDIN = "<stdin>"
"""The name of a plan that was read from standard input."""


def in_file(span: Span | None) -> Span | None:
    """``span`` where it lies in a file; None for a place in ``--set`` or in standard input."""
    return None if span is None or span.file.startswith(("--", "<")) else span


def said(problem: Diagnostic) -> str:
    """Message and hint; before them the place, where that is in no file."""
    text = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    span = problem.span
    if span is None or in_file(span) is not None:
        return text
    return f"{span.file}, line {span.line}, column {span.column}: {text}"


def uri(file: str) -> str:
    """Relative to the current folder where the file lies under it, with ``/``, without ``.`` and ``..``;
    else absolute, ``file://``."""
    path = file.replace("\\", "/") if os.sep == "\\" else file
    if os.path.isabs(path):
        under = os.path.relpath(path)
        if under.startswith(os.pardir):
            return quote_uri(PurePath(os.path.normpath(path)).as_uri())
        path = under
    path = posixpath.normpath(path.replace(os.sep, "/"))
    if path.startswith("../"):
        return quote_uri(PurePath(os.path.abspath(path)).as_uri())
    return quote(path, safe="/", errors="replace")


def quote_uri(text: str) -> str:
    """A URI whose lone surrogates, of file names that are no UTF-8, are replaced."""
    return text.encode("utf-8", "replace").decode()


def fingerprints(found: Iterable[Diagnostic], sources: Iterable[SourceText]) -> Mapping[int, str]:
    """By ``id``: of a finding's code, file, key and line of text, and not of the line's number: what is the
    same finding after an edit above it. Equal ones are numbered in their order."""
    known = {source.name: source for source in sources}
    made, seen = {}, Counter[str]()
    for problem in found:
        span = in_file(problem.span)
        line = known[span.file].line(span.line).strip() if span and span.file in known else ""
        parts = (problem.code.id, uri(span.file) if span else "", problem.pointer, line or problem.message)
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
        seen[digest] += 1
        made[id(problem)] = f"{digest}:{seen[digest]}"
    return made
