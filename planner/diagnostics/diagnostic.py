"""Findings are values with a place; only our own faults are exceptions of another kind.

PlanError
    every exception for something the user can mend; carries the findings
InternalError
    our fault: asks for a report
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from planner.source.text import SourceText, Span


class Severity(Enum):
    """How bad a finding is. Only errors decide the exit code (``--strict`` counts warnings)."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One row of the table of codes: what ``plan explain P302`` prints.

    ``wrong`` and ``right`` are complete examples (a plan, a command or a few lines of Python);
    ``exit_code`` is what the command ends with when a finding of this code is an error; ``strict``:
    a note of this code is an error under ``--strict`` (something was not checked).
    """

    id: str
    name: str
    severity: Severity
    help: str
    wrong: str
    right: str
    exit_code: int = 1
    strict: bool = False

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding: what was found, what was expected, what is known.

    ``span`` is None where no file is to blame (a package that is missing); ``pointer`` is the JSON
    pointer of the guilty value in the document; ``hint`` is a line of its own: what would fit.
    """

    code: Code
    message: str
    span: Span | None = None
    pointer: str = ""
    hint: str = ""
    severity: Severity

    def at(self, severity: Severity) -> Diagnostic:
        """The same finding with another weight."""
        return replace(self, severity=severity)

    def __str__(self) -> str:
        place = f"{self.span.file}:{self.span.line}:{self.span.column}: " if self.span else ""
        return f"{place}{self.message} [{self.code}]"


def finding(
    code: Code, message: str, *, span: Span | None = None, pointer: str = "", hint: str = ""
) -> Diagnostic:
    """A finding at the weight that its code has by default."""
    return Diagnostic(
        code=code, message=message, span=span, pointer=pointer, hint=hint, severity=code.severity
    )


def by_place(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by file, line and column, then by code; what has no place first."""

    def key(d: Diagnostic) -> tuple[str, int, int, str]:
        place = (d.span.file, d.span.line, d.span.column) if d.span else ("", 0, 0)
        return *place, d.code.id

    return sorted(found, key=key)


def errors(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Those of ``found`` that stop the next stage."""
    return tuple(d for d in found if d.severity is Severity.ERROR)


class PlanError(Exception):
    """A plan, a machine or a pipeline is not as it must be; ``diagnostics`` says what and where."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Iterable[SourceText] = ()) -> None:
        """``sources``: the texts that the findings point into, for their lines and carets."""
        self.diagnostics = tuple(diagnostics)
        self.sources = tuple(sources)
        super().__init__("\n".join(str(d) for d in self.diagnostics))

    @property
    def first(self) -> Diagnostic:
        """What went wrong, for a line that has room for one finding: notes may come before it."""
        return next(iter(errors(self.diagnostics)), self.diagnostics[0])


class InternalError(Exception):
    """The planner is wrong, not its user. Exit code 3."""
