"""One pipeline class as the catalogue has it: components, sequence, exclusions, walk and call."""

from __future__ import annotations

from typing import Any

from planner.generate.call import call_text
from planner.generate.components import Argument, components
from planner.generate.reader import Reader
from planner.generate.source import source_of
from planner.generate.walk import walk_of
from planner.target.model import WalkStage
from planner.target.record import optional_of


def record_of(cls: type) -> dict[str, Any]:
    """What the source of ``cls`` says. Runs none of it, but what importing its modules ran."""
    source = source_of(cls)
    arguments = components(cls, source)
    reader = Reader([a.name for a in arguments if a.module], source)
    walk = walk_of(reader.read(cls, [a.name for a in arguments]))
    sequence = getattr(cls, "model_cpu_offload_seq", None)
    return {
        "components": {a.name: _argument(a) for a in arguments},
        "sequence": sequence if isinstance(sequence, str) else None,
        "exclude": list(getattr(cls, "_exclude_from_cpu_offload", None) or ()),
        "overrides": _base(cls, "enable_model_cpu_offload") != "DiffusionPipeline",
        "walk": [_stage(stage) for stage in walk] or None,
        "call": call_text(cls, source),
    }


def _argument(argument: Argument) -> dict[str, Any]:
    made: dict[str, Any] = {"classes": list(argument.classes)}
    made |= {"module": True} if argument.module else {}
    made |= {"optional": True} if argument.optional else {}
    return made


def _stage(stage: WalkStage) -> dict[str, Any]:
    made: dict[str, Any] = {"id": stage.id}
    if stage.stages:
        made["stages"] = [_stage(inner) for inner in stage.stages]
    else:
        made["runs"] = [str(use) for use in stage.runs]
    made |= {"loop": stage.loop} if stage.loop else {}
    made |= {"optional": optional} if (optional := optional_of(stage)) else {}
    return made


def _base(cls: type, method: str) -> str:
    """The name of the class that defines ``method`` for ``cls``."""
    return next((c.__name__ for c in cls.__mro__ if method in vars(c)), "")
