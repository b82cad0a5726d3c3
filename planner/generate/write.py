"""The catalogue of the installed diffusers, as the file that ships."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from planner.generate.classes import pipeline_classes
from planner.generate.components import components, resolve
from planner.generate.reader import Reader
from planner.generate.walk import walk_of
from planner.target.model import WalkStage


def catalogue_text() -> str:
    """One class a line, sorted: the same diffusers gives the same bytes, and a diff shows what changed."""
    pipelines = pipeline_classes()
    models = _models(pipelines)
    said = (
        f'{{"format": 1, "diffusers": {json.dumps(metadata.version("diffusers"))}',
        _lines("keep_float32", _kept(models)),
        _lines("skip_casting", _uncast(models)),
        _lines("classes", {cls.__name__: _record(cls) for cls in pipelines}),
    )
    return ", ".join(said) + "}\n"


def _lines(key: str, values: Mapping[str, Any]) -> str:
    lines = [f"  {json.dumps(name)}: {_compact(said)}" for name, said in values.items()]
    return f'"{key}": {{\n' + ",\n".join(lines) + "\n}"


def _models(pipelines: Iterable[type]) -> dict[str, type | None]:
    """The classes in the annotations of constructors, by name."""
    names = sorted({(cls.__module__, n) for cls in pipelines for a in components(cls) for n in a.classes})
    return {name: resolve(module, name) for module, name in names}


def _uncast(models: Mapping[str, type | None]) -> dict[str, list[str]]:
    """What models leave alone when they are cast: diffusers' ``_skip_layerwise_casting_patterns``."""
    found = {n: getattr(m, "_skip_layerwise_casting_patterns", None) for n, m in models.items()}
    return {name: list(patterns) for name, patterns in sorted(found.items()) if patterns}


def _kept(models: Mapping[str, type | None]) -> dict[str, dict[str, list[str]]]:
    """What models keep in float32. diffusers does so for every half dtype (modeling_utils.py); transformers
    for float16 alone, unless the model is strict about it."""
    found = {}
    for name, model in models.items():
        loose = sorted(getattr(model, "_keep_in_fp32_modules", None) or ())
        strict = sorted(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
        ours = model is not None and model.__module__.startswith("diffusers.")
        said = {"always": loose} if ours else {"always": strict, "float16": loose}
        if any(said.values()):
            found[name] = {key: value for key, value in said.items() if value}
    return dict(sorted(found.items()))


def _record(cls: type) -> dict[str, Any]:
    arguments = components(cls)
    reader = Reader([a.name for a in arguments if a.module])
    events = reader.read(cls, [a.name for a in arguments])
    walk = walk_of(events)
    sequence = getattr(cls, "model_cpu_offload_seq", None)
    base = _base(cls, "enable_model_cpu_offload")
    return {
        "components": {a.name: _argument(a) for a in arguments},
        "sequence": sequence if isinstance(sequence, str) else None,
        "exclude": list(getattr(cls, "_exclude_from_cpu_offload", None) or ()),
        "overrides": base != "DiffusionPipeline",
        "walk": [_stage(stage) for stage in walk] or None,
    }


def _argument(argument: Any) -> dict[str, Any]:
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
    made |= {"optional": True} if stage.optional else {}
    return made


def _base(cls: type, method: str) -> str:
    """The name of the class that defines ``method`` for ``cls``."""
    return next((c.__name__ for c in cls.__mro__ if method in vars(c)), "")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
