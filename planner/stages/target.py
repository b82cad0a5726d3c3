"""What a plan is for: its class, with the sizes that are known of its components."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, errors, finding
from planner.diagnostics.table.p3_target import NO_SUCH_SOURCE, SIZES_UNKNOWN, UNKNOWN_CLASS
from planner.loading.known import known_of, own_of
from planner.models.match import class_of, model_of
from planner.plan.model import Plan
from planner.plan.seen import target_from
from planner.target.catalogue import Own
from planner.target.component import PIPELINE
from planner.target.find import find_target
from planner.target.loaded import describe
from planner.target.model import Target
from planner.target.place import BUILTIN, place_of


def target_for(
    plan: Plan, target: Any, own: Own, traced: Collection[str] = ()
) -> tuple[Target | None, list[Diagnostic]]:
    """What the plan is for: ``target`` (a Target, a pipeline, its class, a folder, a file, a built-in, the
    name of a class), else what it names."""
    if isinstance(target, Target):
        return target, []
    if target is None:
        return found_for(plan, plan.pipeline.cls, plan.pipeline.source, own, traced)
    if isinstance(target, type):
        own = own if in_diffusers(target) else (*own_of(target)[0], *own)
        return found_for(plan, target.__name__, plan.pipeline.source, own)
    if not isinstance(target, (str, Path)):
        try:
            return describe(target, known_of(target, own)), []
        except PlanError as error:
            return None, [*error.diagnostics]
    text = str(target)
    if text.isidentifier() and not Path(text).exists():
        known, found = found_for(plan, text, None, own)
        if text != plan.pipeline.cls:  # which may be one that only its author has
            found = [
                replace(d.at(Severity.ERROR), span=None) if d.code is UNKNOWN_CLASS else d for d in found
            ]
        return known, found
    if not text.startswith(BUILTIN) and not (place := place_of(text)).here:
        said = f'the target "{text}" is no class, built-in, folder or file here'
        return None, [finding(NO_SUCH_SOURCE, said, hint=place.hint)]
    source = text if text.startswith(BUILTIN) else str(Path(text).expanduser().absolute())
    known, found = found_for(plan, plan.pipeline.cls, source, own, traced)
    # What is wrong with it stands in no line of the plan.
    return known, [replace(d, span=None, pointer="") if d.pointer == PIPELINE else d for d in found]


def found_for(
    plan: Plan, cls: str, source: str | None, classes: Own, traced: Collection[str] = ()
) -> tuple[Target | None, list[Diagnostic]]:
    """Of a class that nothing tells of, what the plan's own order says."""
    pipeline = plan.pipeline
    own = {name: said for name, said in plan.components.items() if said.source is not None}
    ordered = plan.stages is not None and cls == pipeline.cls
    if cls == pipeline.cls and (model := model_of(plan)) is not None:
        cls = class_of(plan, model)
    found, problems = find_target(
        cls,
        source,
        dtype=pipeline.dtype,
        variant=pipeline.variant,
        revision=pipeline.revision,
        requires=plan.requires.get("diffusers"),
        relative_to=Path(plan.document.sources[0].name).parent,
        sources={name: said.source or "" for name, said in own.items()},
        own=classes,
        ordered=ordered,
        traced=traced,
        span=pipeline.span,
        source_span=pipeline.spans.get("source"),
        spans={name: said.spans.get("source", said.span) for name, said in own.items()},
    )
    if found is None and not errors(problems) and ordered:
        said = f'sizes are not known of "{cls}": whether the plan fits is not checked'
        problems.append(finding(SIZES_UNKNOWN, said, span=pipeline.span))
        return target_from(plan), problems
    return found, problems


def in_diffusers(cls: type) -> bool:
    """Whether it comes with diffusers."""
    return cls.__module__.startswith("diffusers.")
