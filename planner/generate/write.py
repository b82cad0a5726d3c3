"""The catalogue of the installed diffusers, as the file that ships."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from planner.generate.classes import pipeline_classes
from planner.generate.components import components, resolve
from planner.generate.record import record_of
from planner.generate.source import source_of
from planner.version import VERSION

MADE_BY = ("offload-planner", "torch", "transformers")
"""Packages whose versions a catalogue of one's own names beside diffusers'."""


def catalogue_text() -> str:
    """The catalogue that ships for the installed diffusers."""
    return to_text(_catalogue(pipeline_classes()))


def own_catalogue(classes: Iterable[type]) -> dict[str, Any]:
    """A catalogue of a user's own classes (``schemas/catalogue.v1.schema.json``)."""
    made = _catalogue(sorted(classes, key=lambda cls: cls.__name__))
    for cls in classes:
        made["classes"][cls.__name__] = {"module": cls.__module__, **made["classes"][cls.__name__]}
    versions = {name: version for name in MADE_BY if (version := _version(name))}
    return {"format": made.pop("format"), "diffusers": made.pop("diffusers"), "versions": versions, **made}


def to_text(made: Mapping[str, Any]) -> str:
    """One class a line, sorted: the same classes give the same bytes, and a diff shows what changed."""
    keys = [key for key in ("format", "diffusers", "versions") if key in made]
    head = (f"{json.dumps(key)}: {json.dumps(made[key])}" for key in keys)
    parts = (_lines(key, made[key]) for key in ("keep_float32", "skip_casting", "classes"))
    return "{" + ", ".join((*head, *parts)) + "}\n"


def _catalogue(pipelines: Iterable[type]) -> dict[str, Any]:
    pipelines = tuple(pipelines)
    models = _models(pipelines)
    return {
        "format": 1,
        "diffusers": metadata.version("diffusers"),
        "keep_float32": _kept(models),
        "skip_casting": _uncast(models),
        "classes": {cls.__name__: record_of(cls) for cls in pipelines},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return VERSION if package == "offload-planner" else ""


def _lines(key: str, values: Mapping[str, Any]) -> str:
    lines = [f"  {json.dumps(name)}: {_compact(said)}" for name, said in values.items()]
    return f'"{key}": {{\n' + ",\n".join(lines) + "\n}"


def _models(pipelines: Iterable[type]) -> dict[str, type | None]:
    """The classes in the annotations of constructors, by name."""
    names = sorted(
        {(cls.__module__, n) for cls in pipelines for a in components(cls, source_of(cls)) for n in a.classes}
    )
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


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
