"""Does the plan change the picture, and by which of its lines."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan.model import Plan
from planner.source.text import Span

SAME = "same as without a plan"


def image_line(plan: Plan) -> str:
    """``image: same as without a plan``, or ``image: changed by vae tiling (line 9)``.

    Moving weights changes no pixel. Tiling, quantization and casts do; a ``dtype`` is how the pipeline
    is loaded, with a plan or without, so it is no change by the plan.
    """
    return f"image: {image_words(plan)}"


def image_words(plan: Plan) -> str:
    """The line without its name."""
    changes = [f"{what} ({_line(plan, span)})" for what, span in _changes(plan)]
    return f"changed by {', '.join(changes)}" if changes else SAME


def picture_words(plan: Plan) -> str:
    """The same without lines, for a text in which they are not counted yet."""
    return f"changed by {', '.join(said)}" if (said := [what for what, _ in _changes(plan)]) else SAME


def _changes(plan: Plan) -> Iterator[tuple[str, Span]]:
    for component in plan.components.values():
        if component.tiling:
            yield f"{component.name} tiling", component.spans.get("tiling", component.span)
    for rule in plan.quantization:
        kind = rule.options.get("type") or rule.options.get("storage_dtype")
        how = f"{rule.backend} {kind}" if kind else rule.backend
        yield f"{rule.component} {how}", rule.span


def _line(plan: Plan, span: Span) -> str:
    """A line of another file than the plan's own (one that it extends, ``--set``) is told with its name."""
    sources = plan.document.sources
    own = not sources or span.file == sources[0].name
    return f"line {span.line}" if own else f"{span.file}:{span.line}"
