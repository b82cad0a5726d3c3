"""Does the plan change the picture, and by which of its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import starmap

from planner.plan.model import Plan
from planner.source.text import Span

SAME = "same as without a plan"


def image_line(plan: Plan) -> str:
    """``image: same as without a plan``, or ``image: changed by vae tiling (line 9)``.

    Moving weights changes no pixel. Tiling, quantization and casts do; a ``dtype`` is how the pipeline
    is loaded, with a plan or without, so it is no change by the plan. Slicing computes the same of one
    item at a time, for which a library may take another kernel: ``same as without a plan; vae slicing (line
    9) may round otherwise``.
    """
    return f"image: {image_words(plan)}"


def image_words(plan: Plan) -> str:
    """The line without its name."""
    return _words(plan, lambda what, span: f"{what} ({_line(plan, span)})")


def picture_words(plan: Plan) -> str:
    """The same without lines, for a text in which they are not counted yet."""
    return _words(plan, lambda what, span: what)


def _words(plan: Plan, word: Callable[[str, Span], str]) -> str:
    changed = ", ".join(starmap(word, _changes(plan)))
    rounded = ", ".join(starmap(word, _options(plan, "slicing")))
    said = f"changed by {changed}" if changed else SAME
    return f"{said}; {rounded} may round otherwise" if rounded else said


def _changes(plan: Plan) -> Iterator[tuple[str, Span]]:
    yield from _options(plan, "tiling")
    for rule in plan.quantization:
        kind = rule.options.get("type") or rule.options.get("storage_dtype")
        how = f"{rule.backend} {kind}" if kind else rule.backend
        yield f"{rule.component} {how}", rule.span


def _options(plan: Plan, option: str) -> Iterator[tuple[str, Span]]:
    for component in plan.components.values():
        if component.vae_options.get(option):
            yield f"{component.name} {option}", component.spans.get(option, component.span)


def _line(plan: Plan, span: Span) -> str:
    """A line of another file than the plan's own (one that it extends, ``--set``) is told with its name."""
    sources = plan.document.sources
    own = not sources or span.file == sources[0].name
    return f"line {span.line}" if own else f"{span.file}:{span.line}"
