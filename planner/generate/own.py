"""Classes that diffusers does not have, read where they are: as a catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p3_target import NO_PIPELINE_CLASS
from planner.generate.write import own_catalogue


def catalogue_of(classes: Iterable[type]) -> dict[str, Any]:
    """A catalogue of ``classes``. Raises PlanError for what is no pipeline class, or has no source."""
    from diffusers import DiffusionPipeline

    found = dict.fromkeys(classes)
    for cls in found:
        if not (isinstance(cls, type) and issubclass(cls, DiffusionPipeline)):
            said = f'"{getattr(cls, "__name__", cls)}" is no class of a diffusers pipeline'
            raise PlanError([finding(NO_PIPELINE_CLASS, said)])
    if len({cls.__name__ for cls in found}) < len(found):
        said = "two of the classes have one name, and plans name classes"
        raise PlanError([finding(NO_PIPELINE_CLASS, said)])
    return own_catalogue(found)
