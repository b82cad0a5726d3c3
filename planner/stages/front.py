"""Text to plan: the document, its schema, the plan, its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, InternalError, errors
from planner.document.document import Document
from planner.document.override import with_overrides
from planner.document.read import document_of, read_document
from planner.document.schema import check_schema
from planner.plan.build import build_plan
from planner.plan.model import Plan
from planner.plan.write import to_yaml
from planner.quantization.check import check_rules
from planner.source.text import SourceText

PathOrPlan = str | Path | SourceText | Plan


@dataclass(frozen=True, slots=True)
class Front:
    """Text to plan: the plan, if it is one, what was said of it, and the texts."""

    plan: Plan | None
    found: list[Diagnostic]
    sources: tuple[SourceText, ...]


def front(source: PathOrPlan, overrides: Sequence[str]) -> Front:
    """A stage does not start on what the one before found broken."""
    overrides = (overrides,) if isinstance(overrides, str) else overrides
    if isinstance(source, Plan):
        document, found, sources = _again(source, overrides)
    else:
        document, found, sources = read_document(source, overrides)
    if document is None or errors(found):
        return Front(None, found, sources)
    found += check_schema(document)
    if errors(found):
        return Front(None, found, sources)
    plan, more = build_plan(document)
    if plan is not None and errors(rules := check_rules(plan)):
        return Front(None, found + more + rules, sources)
    return Front(source if plan == source and isinstance(source, Plan) else plan, found + more, sources)


def _again(
    plan: Plan, overrides: Sequence[str]
) -> tuple[Document | None, list[Diagnostic], tuple[SourceText, ...]]:
    """As ``read_document``, of a plan that was read before."""
    document, found = with_overrides(_document(plan), overrides)
    if isinstance(document, Document):
        return document, found, document.sources
    return None, found, (*plan.document.sources, document)


def _document(plan: Plan) -> Document:
    """What the plan was read from; of one whose fields were replaced since, what it says now."""
    if not check_schema(plan.document) and build_plan(plan.document)[0] == plan:
        return plan.document
    text = SourceText(name=plan.document.sources[0].name, text=to_yaml(plan))
    document, found = document_of(text)
    if document is None:
        raise InternalError("a plan cannot be written: " + "; ".join(map(str, found)))
    return document
