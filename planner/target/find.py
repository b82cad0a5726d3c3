"""A plan's target from what the plan names: never from the network, a cache or what is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, Severity, errors, finding
from planner.diagnostics.suggest import did_you_mean, nearest
from planner.diagnostics.table.p3_target import (
    MODULAR,
    NO_CATALOGUE,
    SIZES_UNKNOWN,
    UNKNOWN_BUILTIN,
    UNKNOWN_CLASS,
)
from planner.source.text import Span
from planner.target import catalogue
from planner.target.folder import INDEX, read_folder
from planner.target.model import Blocks, Target

BUILTIN = "builtin:"


def find_target(
    cls: str,
    source: str | None,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    requires: str | None = None,
    relative_to: Path | None = None,
    span: Span | None = None,
    source_span: Span | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The target for class ``cls`` from ``source``: a folder, ``builtin:NAME``, or anything else.

    ``relative_to``: the plan's folder; ``requires``: the plan's specifier of diffusers. What is no folder
    here (a hub id, a folder on another machine, a single file) gives the class without sizes, and a note.
    """
    version, admitted = catalogue.pick(requires)
    found = []
    if not admitted:
        said = f"no catalogue for diffusers {requires}: checked against {version}"
        found.append(finding(NO_CATALOGUE, said, span=span))
    if source is not None and source.startswith(BUILTIN):
        target, problems = _builtin(source.removeprefix(BUILTIN), dtype, version, source_span)
        return target, [*found, *problems]
    # os.path takes any text: a name that is too long, or a home that nobody has, is no folder.
    folder = (relative_to or Path()) / os.path.expanduser(source) if source is not None else None
    if folder is not None and os.path.isfile(folder / INDEX):
        target, problems = read_folder(
            folder, dtype=dtype, variant=variant, version=version, span=source_span
        )
        return target, [*found, *problems]
    target, problems = by_class(cls, version, span)
    found += problems
    if target is not None and not errors(found):
        where = f'of "{source}"' if source else "without a source"
        said = f"sizes are not known {where}: whether the plan fits is not checked"
        found.append(finding(SIZES_UNKNOWN, said, span=source_span or span))
    return target, found


def by_class(cls: str, version: str, span: Span | None = None) -> tuple[Target | None, list[Diagnostic]]:
    """A class of the catalogue; an error when a known name is near, else a warning."""
    target = catalogue.find(cls, version)
    if target is not None:
        return target, []
    if cls.endswith(("ModularPipeline", "AutoBlocks")):
        said = f'"{cls}" is a modular pipeline: its components are moved by diffusers\' ComponentsManager'
        return None, [finding(MODULAR, said, span=span, hint="components_manager.enable_auto_cpu_offload()")]
    names = catalogue.names(version)
    problem = finding(UNKNOWN_CLASS, f'diffusers {version} has no pipeline class "{cls}"', span=span)
    if nearest(cls, names) is None:
        return None, [replace(problem, severity=Severity.WARNING)]
    return None, [replace(problem, hint=did_you_mean(cls, names))]


def _builtin(
    name: str, dtype: str | None, version: str, span: Span | None
) -> tuple[Target | None, list[Diagnostic]]:
    known = builtins()
    if name not in known:
        said = f'no built-in pipeline "{name}"'
        return None, [finding(UNKNOWN_BUILTIN, said, span=span, hint=did_you_mean(name, known))]
    record = known[name]
    base = catalogue.find(record["class"], version)
    if base is None:
        return None, []
    components = {
        key: replace(
            info,
            present=key in record["components"] or not info.module,
            **_sizes(record["components"].get(key, {}).get(dtype or "float32")),
        )
        for key, info in base.components.items()
    }
    return replace(base, components=components, origin="folder"), []


def _sizes(said: Mapping[str, Any] | None) -> dict[str, Any]:
    if said is None:
        return {}
    blocks = Blocks(fixed=said["fixed"], streamable=tuple(said["blocks"]))
    return {"bytes": blocks.bytes, "blocks": blocks}


@cache
def builtins() -> dict[str, Any]:
    """The built-in pipelines: class, and bytes of each component by dtype."""
    text = (resources.files("planner.target") / "data" / "builtins.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
