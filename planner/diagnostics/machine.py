"""Findings for machines: JSON (``schemas/findings.v1.schema.json``), SARIF 2.1.0, workflow commands."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, Severity, errors
from planner.diagnostics.place import fingerprints, in_file, said, uri
from planner.diagnostics.render import LEVELS, ordered
from planner.source.text import SourceText
from planner.source.visible import escaped, in_json
from planner.version import HOME, VERSION

FORMAT = 1
NAME = "offload-planner"


@dataclass(frozen=True, slots=True)
class Checked:
    """One plan that was looked at, by its name, and what was found in it and in what it extends."""

    file: str
    found: tuple[Diagnostic, ...]


def exit_code(found: Iterable[Diagnostic]) -> int:
    """The largest among the errors' exit codes, 0 without errors."""
    return max((d.code.exit_code for d in errors(found)), default=0)


def counts(found: Iterable[Diagnostic]) -> dict[str, int]:
    """``{"errors": 1, "warnings": 0, "notes": 2}``."""
    seen = Counter(d.severity for d in found)
    return {f"{severity.value}s": seen[severity] for severity in Severity}


def statistics(found: Iterable[Diagnostic]) -> dict[Code, int]:
    """How often each code was found, the most frequent first."""
    seen = Counter(d.code.id for d in found)
    codes = {d.code.id: d.code for d in found}
    return {codes[name]: n for name, n in sorted(seen.items(), key=lambda item: (-item[1], item[0]))}


def as_json(
    found: Iterable[Diagnostic], sources: Iterable[SourceText] = (), files: Sequence[Checked] = ()
) -> str:
    """The verdict, each plan's own, and every finding with its place; the same findings give the same
    bytes."""
    problems = ordered(found)
    made = {
        "format": FORMAT,
        "tool": {"name": NAME, "version": VERSION},
        "verdict": _verdict(problems),
        "exit_code": exit_code(problems),
        "summary": {"plans": len(files), **counts(problems)},
        "statistics": {code.id: n for code, n in statistics(problems).items()},
        "files": [{"file": f.file, "verdict": _verdict(f.found), **counts(f.found)} for f in files],
        "diagnostics": [_plain(d) for d in problems],
    }
    return _json(made)


def as_sarif(
    found: Iterable[Diagnostic], sources: Iterable[SourceText] = (), files: Sequence[Checked] = ()
) -> str:
    """SARIF 2.1.0, as code hosts read it."""
    problems = ordered(found)
    codes = {d.code.id: d.code for d in problems}
    prints = fingerprints(problems, sources)
    run = {
        "tool": {
            "driver": {
                "name": NAME,
                "version": VERSION,
                "informationUri": HOME,
                "rules": [_rule(code) for _, code in sorted(codes.items())],
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "The folder that plan was run in."}}},
        "artifacts": [{"location": _location(f.file)} for f in files if not f.file.startswith("<")],
        "results": [_result(d, prints[id(d)], [*codes]) for d in problems],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return _json({"$schema": schema, "version": "2.1.0", "runs": [run]})


def as_github(
    found: Iterable[Diagnostic], sources: Iterable[SourceText] = (), files: Sequence[Checked] = ()
) -> str:
    """GitHub workflow commands: findings show up beside the lines of a pull request."""
    return "".join(_command(problem) + "\n" for problem in ordered(found))


def _verdict(found: Iterable[Diagnostic]) -> str:
    seen = counts(found)
    return "errors" if seen["errors"] else "warnings" if seen["warnings"] else "ok"


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


def _rule(code: Code) -> dict[str, Any]:
    first = re.split(r"(?<=[.:])\s", code.help, maxsplit=1)[0].rstrip(":")
    example = f"{code.help}\n\nwrong:\n{code.wrong}\nright:\n{code.right}"
    marked = f"{code.help}\n\nwrong:\n```yaml\n{code.wrong}\n```\nright:\n```yaml\n{code.right}\n```"
    return {
        "id": code.id,
        "name": "".join(part.capitalize() for part in code.name.split("-")),
        "shortDescription": {"text": first},
        "fullDescription": {"text": code.help},
        "help": {"text": example, "markdown": marked},
        "helpUri": f"{HOME}#{code.id.lower()}-{code.name}",
        "defaultConfiguration": {"level": LEVELS[code.severity]},
    }


def _result(problem: Diagnostic, fingerprint: str, codes: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ruleId": problem.code.id,
        "ruleIndex": sorted(codes).index(problem.code.id),
        "level": LEVELS[problem.severity],
        "message": {"text": said(problem)},
        "partialFingerprints": {"planFinding/v1": fingerprint},
    }
    if (span := in_file(problem.span)) is not None:
        region = {
            "startLine": span.line,
            "startColumn": span.column,
            "endLine": span.line,
            "endColumn": span.column + span.width,
        }
        place = {"artifactLocation": _location(span.file), "region": region}
        made["locations"] = [{"physicalLocation": place}]
    return made


def _location(file: str) -> dict[str, str]:
    where = uri(file)
    return {"uri": where} if "://" in where else {"uri": where, "uriBaseId": "SRCROOT"}


def _command(problem: Diagnostic) -> str:
    level = {"note": "notice"}.get(LEVELS[problem.severity], LEVELS[problem.severity])
    place = ""
    if (span := in_file(problem.span)) is not None:
        end = span.column + span.width - 1
        file = _escaped(span.file).replace(":", "%3A").replace(",", "%2C")
        place = f"file={file},line={span.line},col={span.column},endColumn={end},"
    return f"::{level} {place}title={problem.code}::{_escaped(said(problem))}"


def _escaped(text: str) -> str:
    return escaped(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _json(made: Any) -> str:
    return in_json(json.dumps(made, indent=2, ensure_ascii=False)) + "\n"
