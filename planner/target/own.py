"""A user's own catalogue file: read, and checked before anything in it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_target import BROKEN_CATALOGUE
from planner.document.document import Document
from planner.document.node import escaped
from planner.document.read import document_of
from planner.document.schema import schema_text
from planner.source.text import SourceText, Span
from planner.target.call import read_call

NAME = "catalogue.v1.schema.json"
LIMIT = 16 << 20
"""Bytes: a larger file is no catalogue. All of diffusers' classes take half a MiB."""
SHOWN = 5
"""Findings of one file: the first is the one to mend."""

Read = tuple[Mapping[str, Any] | None, tuple[Diagnostic, ...], tuple[SourceText, ...]]


def read_own(path: Path) -> Read:
    """The catalogue in ``path``; or what is wrong with it, each at its place, and its text."""
    try:
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = "plan catalogue MODULE:CLASS -o FILE writes one"
        return None, (finding(BROKEN_CATALOGUE, f'cannot read "{path}": {why}', hint=hint),), ()


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int) -> Read:
    """``changed`` and ``size`` make it the file as it is now."""
    if not path.is_file() or size > LIMIT:
        said = f'"{path}" is no catalogue: ' + ("it is no file" if size <= LIMIT else "it is too large")
        return None, (finding(BROKEN_CATALOGUE, said),), ()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f'"{path}" is not UTF-8 text: byte {error.start} is no part of it'
        return None, (finding(BROKEN_CATALOGUE, said),), ()
    source = SourceText(name=str(path), text=text)
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except _Twice as twice:
        return None, (_at(source, f"/{escaped(twice.key)}", f'key "{twice.key}" stands twice'),), (source,)
    except (ValueError, RecursionError) as error:
        span = Span(file=str(path), line=getattr(error, "lineno", 1), column=getattr(error, "colno", 1))
        said = f"it is not JSON: {getattr(error, 'msg', error)}"
        return None, (finding(BROKEN_CATALOGUE, said, span=span),), (source,)
    found = tuple(_faults(values))
    if not found:
        return values, (), (source,)
    return None, tuple(_at(source, pointer, said) for pointer, said in found[:SHOWN]), (source,)


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return made


def _faults(values: Any) -> Iterator[tuple[str, str]]:
    """JSON pointers and what is wrong there: by the schema, then names that lead nowhere."""
    validator = Draft202012Validator(json.loads(schema_text(NAME)))
    wrong = sorted(validator.iter_errors(values), key=lambda e: [str(part) for part in e.absolute_path])
    for error in wrong:
        yield "".join(f"/{escaped(str(part))}" for part in error.absolute_path), _words(error)
    if wrong:
        return
    for cls, record in values["classes"].items():
        at = f"/classes/{escaped(cls)}"
        moved = {name for name, said in record["components"].items() if said.get("module")}
        yield from _walk(record["walk"] or (), f"{at}/walk", moved)
        if (call := record.get("call")) is not None:
            try:
                read_call(call)
            except ValueError as error:
                yield f"{at}/call", str(error)


def _walk(walk: Sequence[Any], at: str, moved: set[str]) -> Iterator[tuple[str, str]]:
    for number, stage in enumerate(walk):
        for place, use in enumerate(stage.get("runs", ())):
            if (name := use.partition(".")[0]) not in moved:
                yield f"{at}/{number}/runs/{place}", f'"{name}" is no component with weights of this class'
        yield from _walk(stage.get("stages", ()), f"{at}/{number}/stages", moved)


def _words(error: ValidationError) -> str:
    """The library's own words, which quote the whole value, cut to what is wrong."""
    match error.validator:
        case "additionalProperties":
            return re.sub(r"Additional properties are not allowed \((.*) (was|were) unexpected\)",
                          r"no such key: \1", error.message)  # fmt: skip
        case "required":
            return error.message.replace("is a required property", "is missing")
        case "type":
            kinds = error.validator_value
            listed = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
            return f"expected {listed}, found {json.dumps(error.instance)[:40]}"
        case "const" | "enum":
            return f"expected {json.dumps(error.validator_value)}, found {json.dumps(error.instance)[:40]}"
        case "oneOf":
            return "a stage has runs, or stages: one of them"
    return error.message if len(error.message) < 120 else error.message[:117] + "..."


def _at(source: SourceText, pointer: str, said: str) -> Diagnostic:
    """``said`` at its place: JSON is YAML, whose reader keeps places; else the first line."""
    document, _ = document_of(source)
    span = _span(document, pointer) or Span(file=source.name, line=1, column=1)
    where = f'"{pointer[1:].replace("/", ".")}": ' if pointer else ""
    return finding(BROKEN_CATALOGUE, f"{where}{said}", span=span, pointer=pointer)


def _span(document: Document | None, pointer: str) -> Span | None:
    return None if document is None else document.spans.get(pointer)
