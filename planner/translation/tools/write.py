"""A draft as the text of a plan, a comment behind each line that settings made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.table.p8_tools import CARRIED_OVER
from planner.document.parse import resolved
from planner.plan.write import HEAD
from planner.translation.tools.model import Draft, Line

_SAFE = re.compile(r"(\.{0,2}/)?\w+((->|[-.:/]| -> )\w+)*%?\Z", re.ASCII)

WIDTH = 108
"""Characters: longer comments go on in the next line."""


def to_text(
    draft: Draft, pipeline: Mapping[str, str], *, origin: str, lost: Sequence[Diagnostic] = ()
) -> str:
    """The plan's YAML. ``pipeline``: its keys (``class``, ``source``); ``origin``: what it was made of."""
    lines = [*_comment(f"from {origin}")]
    lost = [problem for problem in lost if problem.code is not CARRIED_OVER]
    if lost:
        lines.append("# what does not carry over:")
        lines += [line for d in lost for line in _comment(f"- {_where(d)}{d.message} [{d.code.id}]", "  ")]
    lines.append("version: 1")
    short = set(pipeline) == {"class"}
    lines.append(f"pipeline: {flow(pipeline['class'] if short else pipeline)}")
    lines += _line(draft.device)
    lines += _section("budget", draft.budget)
    lines += _section("components", draft.components)
    lines += _line(draft.order)
    lines += _line(draft.exclude)
    if draft.rules:
        lines.append("quantization:")
        lines += [f"  - {flow(rule.value)}{_why(rule)}" for rule in draft.rules]
    if draft.loras:
        lines.append("loras:")
        lines += [f"  - {flow(lora.value)}{_why(lora)}" for lora in draft.loras]
    lines += _line(draft.semantics)
    lines += _line(draft.idle)
    return HEAD + "".join(f"{line}\n" for line in lines)


def _where(problem: Diagnostic) -> str:
    return f"line {problem.span.line}: " if problem.span is not None else ""


def _section(name: str, lines: Sequence[Line]) -> Iterator[str]:
    if lines:
        yield f"{name}:"
    for line in lines:
        yield from (f"  {text}" for text in _line(line))


def _line(line: Line | None) -> Iterator[str]:
    if line is not None:
        yield f"{_text(line.key)}: {flow(line.value)}{_why(line)}"


def _why(line: Line) -> str:
    return f"  # {_plain(line.why)}" if line.why else ""


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """``text`` as comment lines, the second and later ones further in."""
    row = "#"
    for word in _plain(text).split(" "):
        if len(row) + 1 + len(word) > WIDTH and row.strip("# "):
            yield row
            row = "#  " + indent
        row += f" {word}"
    yield row


def flow(value: Any) -> str:
    """YAML in flow style, which is what fits behind a key."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """Plain where a reader takes it for the same text, else in quotes."""
    safe = _SAFE.match(text) and isinstance(resolved(text), str)
    return text if safe else json.dumps(text)


def _plain(text: str) -> str:
    """What cannot end a comment, steer a terminal or, where a row begins with it, instruct the checker."""
    line = "".join(c if c.isprintable() and c != "#" else "?" for c in text)
    return line.replace("ignore[", "ignore [")
