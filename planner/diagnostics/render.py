"""Findings as text for people, and as JSON, SARIF and workflow commands for machines."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from planner.diagnostics.diagnostic import Diagnostic, Severity
from planner.source.text import SourceText, Span
from planner.version import VERSION

LONGEST = 160
"""Characters: of a longer line only the part around the caret is shown."""

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def text(found: Iterable[Diagnostic], sources: Iterable[SourceText] = ()) -> str:
    """``file:line:col: message [P302 unknown-component]``, the line, a caret, and what would help."""
    known = {source.name: source for source in sources}
    return "".join(f"{line}\n" for problem in ordered(found) for line in _lines(problem, known))


def as_json(found: Iterable[Diagnostic], sources: Iterable[SourceText] = ()) -> str:
    """A list of findings, each with its place; the same findings give the same bytes."""
    made = {"diagnostics": [_plain(d) for d in ordered(found)]}
    shown = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    return shown.encode("utf-8", "backslashreplace").decode()  # a lone surrogate, as JSON escapes it


def as_sarif(found: Iterable[Diagnostic], sources: Iterable[SourceText] = ()) -> str:
    """SARIF 2.1.0, as code hosts read it."""
    problems = ordered(found)
    codes = {d.code.id: d.code for d in problems}
    run = {
        "tool": {
            "driver": {
                "name": "offload-planner",
                "version": VERSION,
                "rules": [
                    {"id": c.id, "name": c.name, "fullDescription": {"text": c.help}}
                    for _, c in sorted(codes.items())
                ],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(d) for d in problems],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def as_github(found: Iterable[Diagnostic], sources: Iterable[SourceText] = ()) -> str:
    """GitHub workflow commands: findings show up beside the lines of a pull request."""
    return "".join(_command(problem) + "\n" for problem in ordered(found))


def ordered(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place, then by code; what has no place first."""
    return sorted(
        found,
        key=lambda d: ((d.span.file, d.span.line, d.span.column) if d.span else ("", 0, 0), d.code.id),
    )


def _lines(problem: Diagnostic, known: dict[str, SourceText]) -> Sequence[str]:
    span = problem.span
    weight = "" if problem.severity is Severity.ERROR else f"{_LEVELS[problem.severity]}: "
    place = f"{span.file}:{span.line}:{span.column}: " if span else ""
    hint = _visible(problem.hint)
    shown = [_visible(f"{place}{weight}{problem.message} [{problem.code}]")]
    if span is not None and span.file in known and (line := known[span.file].line(span.line)).strip():
        number = str(span.line)
        margin = " " * len(number)
        line, span = _clipped("".join("\ufffd" if _hidden(c) else c for c in line), span)
        shown += [f"{number} | {line}", f"{margin} | {_caret(line, span)}"]
        shown += [f"{margin} = {hint}"] if hint else []
    elif hint:
        shown.append(f"  = {hint}")
    return shown


def _visible(text: str) -> str:
    """Values come from the file: nothing in them may steer a terminal or look like another finding."""
    shown = (c.encode("unicode_escape").decode() if c != "\n" and _hidden(c) else c for c in text)
    return "".join(shown).replace("\n", "\n    ")


def _hidden(character: str) -> bool:
    """Control characters but the tab, ends of lines, lone surrogates, changes of writing direction."""
    if character == "\t" or character.isprintable():
        return False
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or "\u202a" <= character <= "\u202e"
        or "\u2066" <= character <= "\u2069"
    )


def _clipped(line: str, span: Span) -> tuple[str, Span]:
    """At most LONGEST characters of the line, and where the place is in them."""
    if len(line) <= LONGEST:
        return line, span
    start = max(0, min(span.column - 1 - LONGEST // 3, len(line) - LONGEST))
    part = line[start : start + LONGEST]
    before = "…" if start else ""
    after = "…" if start + LONGEST < len(line) else ""
    column = span.column - start + len(before)
    width = max(1, min(span.width, start + LONGEST - span.column + 1))
    return before + part + after, Span(file=span.file, line=span.line, column=column, width=width)


def _caret(line: str, span: Span) -> str:
    """Under the value: tabs stay tabs, and wide characters take two columns."""
    before = line[: span.column - 1]
    inside = line[span.column - 1 :][: span.width]
    pad = "".join("\t" if c == "\t" else " " * _columns(c) for c in before)
    width = max(1, sum(map(_columns, inside)))
    return pad + "^" + "~" * (width - 1)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _plain(problem: Diagnostic) -> dict[str, Any]:
    span = problem.span
    made: dict[str, Any] = {
        "code": problem.code.id,
        "name": problem.code.name,
        "severity": problem.severity.value,
        "message": problem.message,
        "hint": problem.hint,
        "pointer": problem.pointer,
    }
    if span is not None:
        made |= {"file": span.file, "line": span.line, "column": span.column, "width": span.width}
    return made


def _result(problem: Diagnostic) -> dict[str, Any]:
    said = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    made: dict[str, Any] = {
        "ruleId": problem.code.id,
        "level": _LEVELS[problem.severity],
        "message": {"text": said},
    }
    span = problem.span
    if span is not None:
        region = {"startLine": span.line, "startColumn": span.column, "endColumn": span.column + span.width}
        place = {
            "artifactLocation": {"uri": quote(span.file.replace("\\", "/"), safe="/:", errors="replace")},
            "region": region,
        }
        made["locations"] = [{"physicalLocation": place}]
    return made


def _command(problem: Diagnostic) -> str:
    level = {"note": "notice"}.get(_LEVELS[problem.severity], _LEVELS[problem.severity])
    place = ""
    if problem.span is not None:
        span = problem.span
        end = span.column + span.width - 1
        file = _escaped(span.file).replace(":", "%3A").replace(",", "%2C")
        place = f"file={file},line={span.line},col={span.column},endColumn={end},"
    said = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return f"::{level} {place}title={problem.code}::{_escaped(said)}"


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
