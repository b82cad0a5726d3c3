"""Rows against the arguments of the pipeline's call, before any weight is read: all bad rows at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.batches.rows import Raw
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_batch import BAD_ROW_ID
from planner.diagnostics.table.p9_machine import MISSING_ARGUMENT, UNKNOWN_ARGUMENT
from planner.document.node import parts_of
from planner.loading.inputs import input_findings
from planner.plan.model import Plan
from planner.plan.run import IMAGES, SEED, VIDEOS, check_run, with_run
from planner.source.text import Span
from planner.target.call import Call

NAMES = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names of devices on Windows, whatever their suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One call: ``plan`` has the row's arguments over its own in ``run``, the seed too."""

    id: str
    plan: Plan
    span: Span

    @property
    def seed(self) -> int:
        """Of its generator."""
        return int(self.plan.run[SEED])


def check_rows(
    plan: Plan, raws: Sequence[Raw], call: Call, cls: str, folder: Path
) -> tuple[list[Row], list[Diagnostic]]:
    """The calls that rows mean, and everything that is wrong with them, at its place in the rows' file.

    ``folder``: what the rows' paths of images are relative to. A row without ``seed`` has one from the
    plan's seed and its id: SHA-256 of ``SEED:ID``, 32 bits of it. Raises nothing.
    """
    rows: list[Row] = []
    found: list[Diagnostic] = []
    for raw in raws:
        arguments = {k: _rooted(k, v, folder) for k, v in raw.values.items() if k != "id"}
        name = raw.values.get("id", _digest(raw.values))
        if isinstance(name, int) and not isinstance(name, bool):  # as a CSV file has it
            name = str(name)
        if not isinstance(name, str) or not NAMES.fullmatch(name) or RESERVED.fullmatch(name):
            found.append(_bad_id(raw, f"{json.dumps(name, default=str)[:60]} cannot be a file's name"))
            name = _digest(raw.values)
        run = {**plan.run, **arguments}
        if SEED not in arguments:
            run[SEED] = derived_seed(plan.run.get(SEED, 0), name)
        called = with_run(plan, run)
        wrong = check_run(called, call, cls, called=True)
        # A file that is no path is said above; what is one is opened.
        said = {d.pointer for d in wrong}
        wrong += [d for d in input_findings(called) if not any(d.pointer.startswith(p) for p in said)]
        found += [_here(d, raw) for d in wrong]
        found += [_no_name(key, raw) for key in arguments if not key.isidentifier()]
        rows.append(Row(id=name, plan=called, span=raw.span))
    found += _twice(rows, raws)
    return rows, found


def derived_seed(seed: object, name: str) -> int:
    """The seed of a row without one; 32 bits, which every tool that reads the results can hold."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rooted(name: str, value: Any, folder: Path) -> Any:
    if name not in IMAGES | VIDEOS:
        return value
    if isinstance(value, list):
        return [_rooted(name, part, folder) for part in value]
    return str(folder.absolute() / Path(value).expanduser()) if isinstance(value, str) else value


def _here(found: Diagnostic, raw: Raw) -> Diagnostic:
    """A finding of the row's arguments at its place; of the plan's own, where the plan has it."""
    path = parts_of(found.pointer)
    if found.code is MISSING_ARGUMENT:
        return replace(
            found, span=raw.span, message=found.message.replace("run has none", "the row has none")
        )
    if len(path) > 1 and path[1] in raw.spans:
        return replace(found, span=raw.spans[path[1]])
    return found


def _no_name(key: str, raw: Raw) -> Diagnostic:
    """Whatever the call takes beside its arguments: a CSV file with other separators, most often."""
    hint = "columns are separated by commas" if any(mark in key for mark in ";\t|") else ""
    return finding(UNKNOWN_ARGUMENT, f'"{key}" is no argument', span=raw.spans.get(key, raw.span), hint=hint)


def _bad_id(raw: Raw, said: str) -> Diagnostic:
    return finding(BAD_ROW_ID, said, span=raw.spans.get("id", raw.span))


def _twice(rows: Sequence[Row], raws: Sequence[Raw]) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    first: dict[str, Span] = {}
    for row, raw in zip(rows, raws, strict=True):
        key = row.id.lower()
        if key in first:
            what = f'"{row.id}"' if "id" in raw.values else "the same arguments and no id"
            found.append(_bad_id(raw, f"{what}: as in line {first[key].line}"))
        first.setdefault(key, raw.span)
    for row, raw in zip(rows, raws, strict=True):
        stem, sign, number = row.id.lower().rpartition("-")
        if sign and number.isdigit() and stem in first:
            said = f'"{row.id}" may be an output of "{stem}" in line {first[stem].line}'
            found.append(_bad_id(raw, said))
    return found
