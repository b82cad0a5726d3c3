"""Rows of a batch from a file, each value with its place: JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_batch import INPUTS_UNREADABLE, NO_PARQUET, ROW_UNREADABLE, ROWS_MISSING
from planner.plan.run import IMAGES, VIDEOS
from planner.source.text import SourceText, Span
from planner.target.call import Call

STDIN = "-"
LONGEST = 1 << 20
"""Bytes of a row: a prompt is text; what is larger belongs into a file that the row names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A row as it is written, ``id`` among its ``values``; ``spans``: where each value stands."""

    values: Mapping[str, Any]
    spans: Mapping[str, Span]
    span: Span


def read_rows(inputs: str | Path, call: Call) -> tuple[list[Raw], list[Diagnostic], tuple[SourceText, ...]]:
    """The rows of a file, or of stdin for ``-``; ``call``: which texts of a CSV file are numbers.

    All rows that cannot be read are findings (P960), and so is that there are none (P990). Raises PlanError
    where there is no such file or its suffix is not known (P962), and for Parquet without pyarrow (P963).
    """
    rows, found, texts = _read(inputs, call)
    if not rows and not found:
        name = "<stdin>" if str(inputs) == STDIN else str(inputs)
        found = [finding(ROWS_MISSING, f'no rows in "{name}"', span=Span(file=name, line=1, column=1))]
    return rows, found, texts


def _read(inputs: str | Path, call: Call) -> tuple[list[Raw], list[Diagnostic], tuple[SourceText, ...]]:
    name = str(inputs)
    suffix = Path(name).suffix.lower()
    if name != STDIN and suffix not in (".jsonl", ".csv", ".parquet"):
        raise PlanError([finding(INPUTS_UNREADABLE, f'expected .jsonl, .csv, .parquet or -, found "{name}"')])
    try:
        if suffix == ".parquet":
            return _parquet(name)
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise PlanError(
            [finding(INPUTS_UNREADABLE, f'cannot read "{name}": {error.strerror or error}')]
        ) from error
    shown = "<stdin>" if name == STDIN else name
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return [], [_unreadable("not UTF-8", Span(file=shown, line=line, column=column))], ()
    rows, found = _csv(text, shown, call) if suffix == ".csv" else _jsonl(text, shown)
    return rows, found, (SourceText(name=shown, text=text),)


def _unreadable(said: str, span: Span) -> Diagnostic:
    return finding(ROW_UNREADABLE, said, span=span)


def _jsonl(text: str, name: str) -> tuple[list[Raw], list[Diagnostic]]:
    rows, found = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        span = Span(file=name, line=number, column=1)
        try:
            if len(line) > LONGEST:
                raise ValueError(f"the row has {len(line)} characters, more than {LONGEST}")
            values = json.loads(line, object_pairs_hook=once, parse_constant=no_constant)
            if not isinstance(values, dict):
                raise ValueError(f"expected an object, found {line[:40].strip()}")
        except json.JSONDecodeError as error:
            at = Span(file=name, line=number, column=error.colno)
            found.append(_unreadable(f"not JSON: {error.msg}", at))
        except (ValueError, RecursionError) as error:
            found.append(_unreadable(str(error), span))
        else:
            spans = {key: _key_span(line, key, span) for key in values}
            rows.append(Raw(values=values, spans=spans, span=span))
    return rows, found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object whose keys are there once. Raises ValueError."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f'the key "{twice}" is there twice')
    return made


def no_constant(name: str) -> Any:
    """For ``json.loads``: NaN and Infinity are no JSON. Raises ValueError."""
    raise ValueError(f"{name} is no number of JSON")


def _key_span(line: str, key: str, whole: Span) -> Span:
    """A quote inside a text is escaped, so that a quoted name before a colon is a key."""
    quoted = json.dumps(key, ensure_ascii=False)
    seen = re.search(r"(?<!\\)" + re.escape(quoted) + r"(?=\s*:)", line)
    return whole if seen is None else whole.part(seen.start(), len(quoted))


def _csv(text: str, name: str, call: Call) -> tuple[list[Raw], list[Diagnostic]]:
    rows: list[Raw] = []
    found: list[Diagnostic] = []
    try:
        records = list(_records(text, name))
    except csv.Error as error:
        said, line = error.args
        return rows, [_unreadable(f"not CSV: {said}", Span(file=name, line=line, column=1))]
    if not records:
        return rows, found
    (_, header, places), *others = records
    for i, key in enumerate(header):
        if not key or key in header[:i]:
            said = f'the column "{key}" is there twice' if key else "a column without a name"
            found.append(_unreadable(said, places[i]))
    for size, values, at in others if not found else ():
        if size > LONGEST:
            found.append(_unreadable(f"the row has {size} characters, more than {LONGEST}", at[0]))
        elif len(values) != len(header):
            said = f"{len(values)} values under {len(header)} names"
            found.append(_unreadable(said, at[min(len(header), len(values) - 1)]))
        elif any(values):
            given = {k: _value(k, v, call) for k, v in zip(header, values, strict=True) if v != ""}
            spans = dict(zip(header, at, strict=True))
            rows.append(Raw(values=given, spans=spans, span=at[0]))
    return rows, found


def _records(text: str, name: str) -> Iterator[tuple[int, list[str], list[Span]]]:
    """Length, values and places of each record of a CSV text (RFC 4180). Raises csv.Error, with ``line`` in
    its arguments, for a quote that does not end and for what follows one."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines = list(io.StringIO(text, newline=""))  # as the reader counts them
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    before = 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:  # a row would hold all that follow
            raise csv.Error(str(error), before + 1) from error
        if values is None:
            return
        record = "".join(lines[before : reader.line_num])
        if values:
            yield len(record), values, _places(record, name, before + 1)
        before = reader.line_num


def _places(record: str, name: str, line: int) -> list[Span]:
    places, quoted, column = [Span(file=name, line=line, column=1)], False, 1
    for character in record:
        column += 1
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            places.append(Span(file=name, line=line, column=column))
        elif character == "\n":
            line, column = line + 1, 1
    return places


def _value(name: str, text: str, call: Call) -> Any:
    """Of a cell: text where the argument takes text, else what JSON reads in it."""
    argument = call.arguments.get(name)
    listed = text.startswith("[") and (name in IMAGES | VIDEOS)
    if not listed and (name == "id" or name in IMAGES | VIDEOS):
        return text
    if not listed and argument is not None and argument.takes("str", "image", "any"):
        return text
    try:
        return json.loads(
            text.lower() if text.lower() in ("true", "false") else text, parse_constant=no_constant
        )
    except ValueError:
        return text


def _parquet(name: str) -> tuple[list[Raw], list[Diagnostic], tuple[SourceText, ...]]:
    """A row's line is its number, a value's column that of its column in the file, counted from 1."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        said = f'"{name}" needs pyarrow, which is not installed'
        raise PlanError([finding(NO_PARQUET, said, hint="pip install 'offload-planner[batch]'")]) from error
    try:
        table = parquet.read_table(name)
    except pyarrow.ArrowException as error:
        raise PlanError([finding(INPUTS_UNREADABLE, f'cannot read "{name}": {error}')]) from error
    rows: list[Raw] = []
    found: list[Diagnostic] = []
    for number, values in enumerate(table.to_pylist(), start=1):
        spans = {
            key: Span(file=name, line=number, column=i) for i, key in enumerate(table.column_names, start=1)
        }
        given = {key: _number(value) for key, value in values.items() if value is not None}
        found += [
            _unreadable(f"{value} is no number that a call takes", spans[key])
            for key, value in given.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        rows.append(Raw(values=given, spans=spans, span=Span(file=name, line=number, column=1)))
    return rows, found, ()


def _number(value: Any) -> Any:
    """A decimal as JSON would have it."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)
