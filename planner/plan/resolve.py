"""A plan's names against the pipeline that it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean, nearest
from planner.diagnostics.table.p3_plan import (
    CANNOT_TILE_OR_SLICE,
    ENTRY_NOT_CHECKED,
    NO_WEIGHTS,
    OTHER_CLASS,
    UNKNOWN_COMPONENT,
    UNKNOWN_ENTRY,
)
from planner.diagnostics.table.p3_target import NOT_HERE
from planner.plan.model import Plan, Use
from planner.source.text import Span
from planner.target.auto import is_generic
from planner.target.model import Target
from planner.target.vae_options import may_have

METHODS = frozenset({"encode", "decode", "forward", "generate"})
"""Entry points that any component may have beside those that its pipelines call."""


def check_names(plan: Plan, target: Target) -> list[Diagnostic]:
    """Components and entry points that ``target`` does not have, each where the plan names it.

    A loaded pipeline of another class than the plan's is taken when it has every component that the plan
    names; any other target of another class is an error.
    """
    named = target.cls == plan.pipeline.cls or is_generic(plan.pipeline.cls)
    if not named and target.origin != "loaded":
        said = f'the plan is for "{plan.pipeline.cls}", the target is "{target.cls}"'
        return [finding(OTHER_CLASS, said, span=plan.pipeline.span, pointer="/pipeline/class")]
    return [*_problems(plan, target), *_without_option(plan, target)]


def _problems(plan: Plan, target: Target) -> Iterator[Diagnostic]:
    for name, span, weights in _named(plan):
        info = target.components.get(name)
        if name in target.lacks:
            said = f'this "{target.cls}" has no component "{name}": nothing is planned for it'
            yield finding(NOT_HERE, said, span=span)
        elif info is None:
            yield finding(
                UNKNOWN_COMPONENT,
                f'"{target.cls}" has no component "{name}"',
                span=span,
                hint=did_you_mean(name, target.modules),
            )
        elif not info.present and weights and weights != "quantized":  # a rule's check tells that itself
            said = f'"{name}" is None in this "{target.cls}": nothing is planned for it'
            yield finding(NOT_HERE, said, span=span)
        elif weights in ("placed", "quantized") and info.same_as:
            said = f'"{name}" is the same module as "{info.same_as}": name that one'
            yield finding(NO_WEIGHTS, said, span=span)
        elif weights and not info.module and not info.same_as:
            yield finding(NO_WEIGHTS, f'"{name}" has no weights to move', span=span)
    for use in uses_of(plan):
        known = target.components.get(use.component)
        if known is None or not known.module or not use.entry:
            continue
        if use.entry in known.lacks:
            said = f'"{use.component}" ({known.classes[0]}) has no "{use.entry}" here: it cannot be called'
            yield finding(NOT_HERE, said, span=use.span.part(len(use.component) + 1, len(use.entry)))
            continue
        first = use.entry.partition(".")[0]
        heads = {entry.partition(".")[0] for entry in known.entries}
        if first in heads or first in METHODS:
            continue
        near = nearest(first, heads | METHODS)
        place = use.span.part(len(use.component) + 1, len(use.entry))
        # Whether the built model has a part of this name is not known here; a near miss is a mistake.
        if near is not None:
            yield finding(
                UNKNOWN_ENTRY,
                f'"{use.component}" has no entry point "{use.entry}"',
                span=place,
                hint=f'did you mean "{near}"?',
            )
        elif target.origin != "loaded":  # a loaded pipeline is asked when the plan is applied
            said = f'whether "{use.component}" has an entry point "{use.entry}" is not known here'
            yield finding(ENTRY_NOT_CHECKED, said, span=place)


def _without_option(plan: Plan, target: Target) -> Iterator[Diagnostic]:
    for said in plan.components.values():
        info = target.components.get(said.name)
        if info is None or not info.classes:
            continue
        for option, on in said.vae_options.items():
            if on and not may_have(option, info.classes):
                what = f'component "{said.name}" ({", ".join(info.classes)}) has no {option}'
                yield finding(CANNOT_TILE_OR_SLICE, what, span=said.spans[option])


def _named(plan: Plan) -> Iterator[tuple[str, Span, Literal["used", "placed", "quantized", ""]]]:
    """Every component that the plan names, its place, and what happens to its weights there, if anything."""
    for use in uses_of(plan):
        yield use.component, use.span.part(0, len(use.component)), "used"
    for name in plan.exclude:
        yield name.name, name.span, "placed"
    for component in plan.components.values():
        yield component.name, component.span, "placed" if component.policy is not None else ""
    for rule in plan.quantization:
        yield rule.component, rule.spans["component"], "quantized"


def uses_of(plan: Plan) -> Iterator[Use]:
    """Every use in the plan's own stages, in the file's order."""
    pending = list(plan.stages or ())
    while pending:
        stage = pending.pop(0)
        yield from stage.runs
        pending = [*stage.stages, *pending]
