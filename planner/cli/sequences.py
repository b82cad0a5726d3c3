"""``plan translate --all``: every class's string, and what is wrong with it."""

from __future__ import annotations

import json

from planner.cli.terminal import put, raw
from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.table.p8_translate import DEFECTS
from planner.report.sheet import Sheet, sheet
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.lint import lint


def all_sequences(version: str | None, form: str) -> int:
    """A row a class, or the same as JSON. A string that is wrong upstream is no error of the command."""
    rows = []
    for name in catalogue.names(version):
        target = catalogue.find(name, version)
        if target is not None:
            rows.append((target, lint(target)))
    counts = {"ok": 0, "defect": 0, "no sequence": 0}
    for target, found in rows:
        counts[_status(target, found)] += 1
    if form == "json":
        raw(json.dumps({"classes": [_row(t, f) for t, f in rows], "summary": counts}, indent=1) + "\n")
        return 0
    put(sequences_table(rows), "", ", ".join(f"{count} {status}" for status, count in counts.items()))
    return 0


def sequences_table(rows: list[tuple[Target, tuple[Diagnostic, ...]]]) -> Sheet:
    """What is wrong stands before the strings, which are long."""
    made = sheet("!class", "status", "codes", "~sequence", gap=2)
    for target, found in rows:
        codes = dict.fromkeys(d.code.id for d in found)
        made.add(target.cls, _status(target, found), " ".join(codes), target.sequence or "")
    return made


def _row(target: Target, found: tuple[Diagnostic, ...]) -> dict[str, object]:
    return {
        "class": target.cls,
        "sequence": target.sequence,
        "status": _status(target, found),
        "diagnostics": [{"code": d.code.id, "name": d.code.name, "message": d.message} for d in found],
    }


def _status(target: Target, found: tuple[Diagnostic, ...]) -> str:
    if any(d.code in DEFECTS for d in found):
        return "defect"
    return "ok" if target.sequence is not None else "no sequence"
