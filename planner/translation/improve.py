"""The plan that a sequence meant to say: the class's own walk, each stage with what it needs and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.plan.write import HEAD
from planner.target.model import Target, WalkStage, WalkUse
from planner.translation.lint import chain_of
from planner.translation.tools.write import flow

NOT_KNOWN = "2"
"""Written for a loop of which only the pipeline knows how often: twice is what makes it a loop."""


def improved(target: Target, source: str | None = None) -> str:
    """The commented YAML of ``target``'s walk; where that is not known, of its sequence; and nothing where
    neither is: the order of a constructor's arguments is not the order in which they run. ``source``: the
    folder that it was read from."""
    said = "no model_cpu_offload_seq" if target.sequence is None else f'the sequence "{target.sequence}"'
    if target.walk is None and not chain_of(target):
        return ""
    why = (
        "these stages are what its __call__ runs, in order, read from its source"
        if target.walk is not None
        else "what its __call__ runs could not be read: the order is the sequence's"
    )
    lines = [f"# {named(target)} has {said};", f"# {why}", "version: 1"]
    lines.append(f"pipeline: {_pipeline(target, source)}")
    if target.walk is None:
        lines.append(f"order: {' -> '.join(chain_of(target))}")
    else:
        lines.append("stages:")
        lines += _stages(target.walk, "  ")
    kept = [name for name in target.excluded if name in target.modules and not _runs(target.walk, name)]
    if kept:
        lines.append(f"exclude: [{', '.join(kept)}]  # _exclude_from_cpu_offload, and in no stage")
    lines.append("semantics: liveness")
    return HEAD + "".join(f"{line}\n" for line in lines)


def _pipeline(target: Target, source: str | None) -> str:
    return target.cls if source is None else flow({"class": target.cls, "source": source})


def named(target: Target) -> str:
    """A class and where it is from: ``FluxPipeline of diffusers 0.42.1``, ``MyPipe of mymodule``."""
    where = target.module or (f"diffusers {target.version}" if target.version else "")
    return f"{target.cls} of {where}" if where else target.cls


def turns(stage: WalkStage) -> tuple[tuple[str, tuple[WalkUse, ...], str], ...]:
    """A stage as the language says it: id, runs and loop. Two denoisers of one loop (``transformer`` and
    ``transformer_2``) take turns, and are never needed together: a stage each."""
    names = {run.component for run in stage.runs}
    seconds = {name for name in names if name.removesuffix("_2") in names - {name}}
    if stage.loop != "steps" or not seconds:
        loop = {"": "", "steps": "steps", "times": NOT_KNOWN}[stage.loop]
        return ((stage.id, stage.runs, loop),)
    firsts = {name.removesuffix("_2") for name in seconds}
    return (
        (stage.id, tuple(run for run in stage.runs if run.component not in seconds), "50%"),
        (f"{stage.id}_2", tuple(run for run in stage.runs if run.component not in firsts), "50%"),
    )


def _stages(walk: Sequence[WalkStage], indent: str) -> Iterator[str]:
    for stage in walk:
        optional = ", optional: true" if stage.optional else ""
        if stage.stages:
            yield f"{indent}- id: {stage.id}"
            yield f"{indent}  loop: {NOT_KNOWN}  # again and again; how often, only the pipeline knows"
            yield f"{indent}  stages:"
            yield from _stages(stage.stages, indent + "    ")
            continue
        made = turns(stage)
        for name, runs, loop in made:
            listed = ", ".join(map(str, runs))
            loops = f", loop: {loop}" if loop else ""
            why = "  # they share the steps; the pipeline's boundary decides how" if len(made) > 1 else ""
            yield f"{indent}- {{id: {name}, runs: [{listed}]{loops}{optional}}}{why}"


def _runs(walk: Sequence[WalkStage] | None, name: str) -> bool:
    return any(
        any(run.component == name for run in stage.runs) or _runs(stage.stages, name) for stage in walk or ()
    )
