"""A lock's file: read, and believed only where nothing in it was changed since it was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_lock import LOCK_BROKEN, LOCK_CHANGED, LOCK_MISSING
from planner.document.schema import schema_text
from planner.lock.model import FORMAT, NAME, Lock
from planner.source.text import Span

LIMIT = 64 << 20
"""Bytes: a larger file is no lock."""
AGAIN = "plan compile {} --lock writes it anew"


def read_lock(path: Path, plan: str = "FILE") -> tuple[Lock | None, list[Diagnostic]]:
    """The lock in ``path``, or why there is none: missing (P951), no lock (P952), changed (P953). ``plan``:
    whose it is, for the hint."""
    again = AGAIN.format(plan)
    try:
        if path.is_file() and path.stat().st_size > LIMIT:
            raise OSError("it is too large")
        data = path.read_bytes()
    except FileNotFoundError:
        return None, [finding(LOCK_MISSING, f'no lock "{path}"', hint=again)]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return None, [finding(LOCK_BROKEN, f'cannot read "{path}": {why}', hint=again)]
    return parse_lock(data, str(path), again)


def parse_lock(data: bytes, name: str, hint: str = "") -> tuple[Lock | None, list[Diagnostic]]:
    """The lock that ``data`` is, called ``name``. Line ends are as git left them."""
    top = Span(file=name, line=1, column=1)
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
        values = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        at = Span(file=name, line=getattr(error, "lineno", 1), column=getattr(error, "colno", 1))
        why = getattr(error, "msg", None) or "it is not UTF-8 text" * isinstance(error, UnicodeDecodeError)
        return None, [finding(LOCK_BROKEN, f"no lock: {why or error}", span=at, hint=hint)]
    if not isinstance(values, dict) or type(values.get("format")) is not int or "digest" not in values:
        said = 'no lock: it has no "format" and "digest"'
        return None, [finding(LOCK_BROKEN, said, span=top, hint=hint)]
    if values["format"] != FORMAT and values["format"] > 0:
        said = f"a lock of format {values['format']}: this version reads {FORMAT}"
        return None, [finding(LOCK_BROKEN, said, span=top, hint=hint)]
    lock = Lock({key: value for key, value in values.items() if key not in ("format", "digest")})
    if lock.to_json() != text:
        said = "the lock is not as it was written: its digest is another"
        if values["digest"] == lock.digest:
            said = "the lock is not as it was written: its layout is another"
        return None, [finding(LOCK_CHANGED, said, span=top, hint=hint)]
    if (fault := next(_validator().iter_errors(values), None)) is not None:
        where = "/".join(map(str, fault.absolute_path)) or "the top"
        said = f"no lock of this version: {where}: {fault.message}"
        return None, [finding(LOCK_BROKEN, said, span=top, hint=hint)]
    return lock, []


@cache
def _validator() -> Any:
    return Draft202012Validator(json.loads(schema_text(NAME)))


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
