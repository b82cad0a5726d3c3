"""A class's walk as far as the pipeline at hand can run it.

A walk is read from source: it names what may be called. What a pipeline does not have cannot be called,
so it is in no walk of that pipeline.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from planner.target.model import WalkStage, WalkUse


def runnable(
    walk: Sequence[WalkStage] | None, here: Callable[[WalkUse], WalkUse | None]
) -> tuple[WalkStage, ...] | None:
    """``walk`` with each use as it is ``here``: without those that are None, twice in a stage, and without
    stages that nothing is left of. None where nothing is left at all, as where no walk is known."""
    made = (_stage(stage, here) for stage in walk or ())
    return tuple(stage for stage in made if stage.runs or stage.stages) or None


def callable_at(component: Any, entry: str) -> bool:
    """Whether ``entry`` (``encode``, ``text_model.final_layer_norm``) leads to what can be called."""
    part = component
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers (0.42.1) warns where a name is one of a model's config
        for step in entry.split("."):
            try:
                part = getattr(part, step)
            except Exception:  # a property may raise anything
                return False
    return callable(part)


def _stage(stage: WalkStage, here: Callable[[WalkUse], WalkUse | None]) -> WalkStage:
    uses: dict[str, WalkUse] = {}
    for run in stage.runs:
        if (use := here(run)) is not None:
            before = uses.get(str(use), use)  # of two that are one here, one that happens
            uses[str(use)] = use if before.optional else before
    return replace(stage, runs=tuple(uses.values()), stages=runnable(stage.stages, here) or ())
