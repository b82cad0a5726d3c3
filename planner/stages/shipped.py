"""Sizes and calls of well-known models that ship, for a plan whose own files are not here."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_target import SHIPPED, SIZES_UNKNOWN
from planner.models.known import sized_as_shipped
from planner.models.match import Shipped, shipped
from planner.plan.model import Plan
from planner.schedule.card import Place
from planner.target.catalogue import Own
from planner.target.model import Target


def shipped_for(plan: Plan, known: Target, card: Place | None) -> Shipped | None:
    """What ships of the plan's model, with the kernels of ``card`` where those are known."""
    return shipped(plan, known.call, None if card is None or card.data is None else card.data.kernels)


def as_shipped(
    plan: Plan, known: Target, ships: Shipped, own: Own, found: list[Diagnostic], *, asked: bool
) -> tuple[Target, list[Diagnostic]]:
    """With the sizes that ship, and a note that says so in place of the one that said that none are known.
    ``asked``: whether the call that ships is wanted."""
    made = sized_as_shipped(known, plan, ships.model, own)
    sizes, call = made.components != known.components, asked and ships.call is not None
    if not (sizes or call):
        return known, found
    span = plan.pipeline.spans.get("source", plan.pipeline.span)
    words = _shipped_words(plan, ships, sizes=sizes, asked=asked)
    said = finding(SHIPPED, words, span=span, pointer="/pipeline/source")
    if not sizes:
        return known, [*found, said]
    return made, [*still_unknown(plan, made, found), said]


def still_unknown(plan: Plan, made: Target, found: list[Diagnostic]) -> list[Diagnostic]:
    """``found``, with what is said of unknown sizes as it is once ``made`` has some of them."""
    kept = [d for d in found if d.code is not SIZES_UNKNOWN]
    if len(kept) == len(found):
        return found
    span = plan.pipeline.spans.get("source", plan.pipeline.span)
    unknown = [
        f'"{name}"'
        for name, info in made.components.items()
        if info.module and info.present and not info.optional and info.bytes is None
    ]
    if unknown:
        lacking = f"sizes are not known of {', '.join(unknown)}: whether the plan fits is not checked"
        kept.append(finding(SIZES_UNKNOWN, lacking, span=span))
    return kept


def _shipped_words(plan: Plan, ships: Shipped, *, sizes: bool, asked: bool) -> str:
    call = asked and ships.call is not None
    what = " and ".join(["sizes"] * sizes + ["activations"] * call)
    said = f'{what} of "{plan.pipeline.source}" are those that ship (made with {ships.model.made_with})'
    if plan.pipeline.revision is not None:
        said += f', whatever "{plan.pipeline.revision}" has'
    if asked and ships.call is None:
        return f"{said}; activations are not predicted: {ships.why}"
    return f"{said}; activations are {ships.why}" if call and not ships.exact else said
