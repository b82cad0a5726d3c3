"""What a text of settings is: a command line, Python, or YAML and JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.table.p8_tools import SETTINGS_NOT_READ
from planner.document.node import flatten
from planner.document.parse import parse as parse_yaml
from planner.source.text import SourceText, Span
from planner.translation.script.source import Script
from planner.translation.script.source import parse as parse_python
from planner.translation.tools.command import from_command, is_command
from planner.translation.tools.model import Tool

LONGEST = 1 << 16
"""Characters of a text: settings are short."""

_PYTHON = re.compile(
    r"^[ \t]*(>>> ?)?((import|from|def)[ \t]+\w|(for|if|with|while)[ \t].*:[ \t]*$|[A-Za-z_][\w.]* \+?= "
    r"|([\w.]+[ \t]*=[ \t]*)?[A-Za-z_][\w.]*[ \t]*\()",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Settings by name as they were written, or a ``script``. ``places``: by JSON pointer or by name."""

    settings: Any = None
    script: Script | None = None
    places: Mapping[str, Span] = field(default_factory=dict)
    pipeline: Mapping[str, str] = field(default_factory=dict)
    found: tuple[Diagnostic, ...] = ()


def is_python(text: str) -> bool:
    """Whether ``text`` is Python rather than YAML: a line of it begins with a call or a statement."""
    return _PYTHON.search(text) is not None


def given_in(source: SourceText, tool: Tool | None) -> Given:
    """What ``source`` has for ``tool``; without one it is a script. Errors are in ``found``."""
    text, hint = source.text, f"such as {tool.example}" if tool is not None else ""
    if len(text) > LONGEST:
        said = f"the settings have {len(text)} characters, expected at most {LONGEST}"
        return Given(found=(finding(SETTINGS_NOT_READ, said, hint=hint),))
    if not text.strip():
        return Given()
    try:
        if tool is not None and is_command(tool, text):
            options = from_command(tool, source)
            return Given(
                settings=dict(options.values),
                places=options.places,
                pipeline=options.pipeline,
                found=options.found,
            )
        if tool is None or is_python(text):
            return Given(script=parse_python(source))
        node, problems = parse_yaml(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deep"
        said = f"the settings cannot be read: {reason}"
        return Given(found=(finding(SETTINGS_NOT_READ, said, span=_place(error, source), hint=hint),))
    if node is None or errors(problems):
        problem = errors(problems)[0]
        said = f"the settings are not YAML: {problem.message}"
        return Given(found=(finding(SETTINGS_NOT_READ, said, span=problem.span, hint=hint),))
    settings, _, keys = flatten(node)
    return Given(settings=settings, places=keys)


def _place(error: BaseException, source: SourceText) -> Span | None:
    if not isinstance(error, SyntaxError) or error.lineno is None:
        return None
    return Span(file=source.name, line=error.lineno, column=max(1, error.offset or 1))
