"""A plan's target from what the plan names: never from the network, a cache or what is installed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, Severity, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_target import (
    MODULAR,
    NO_CATALOGUE,
    SIZES_UNKNOWN,
    UNKNOWN_BUILTIN,
    UNKNOWN_CLASS,
)
from planner.source.text import Span
from planner.target import catalogue
from planner.target.folder import read_folder
from planner.target.index import Index
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
    sources: Mapping[str, str] | None = None,
    span: Span | None = None,
    source_span: Span | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The target for class ``cls`` from ``source``: a folder, ``builtin:NAME``, or anything else.

    ``relative_to``: the plan's folder; ``requires``: the plan's specifier of diffusers; ``sources``: of
    components that have one of their own. What is no folder here (a hub id, a folder on another machine,
    a single file) gives the class without sizes, and a note.
    """
    version, admitted = catalogue.pick(requires)
    found = []
    if not admitted:
        said = f"no catalogue for diffusers {requires}: checked against {version}"
        found.append(finding(NO_CATALOGUE, said, span=span))
    if source is not None and source.startswith(BUILTIN):
        target, problems = _builtin(source.removeprefix(BUILTIN), cls, dtype, version, source_span)
        return target, [*found, *problems]
    folder = _folder(source, relative_to) if source is not None else None
    if folder is not None and os.path.isdir(folder):
        given = {name: _folder(place, relative_to) for name, place in (sources or {}).items()}
        target, problems = read_folder(
            folder,
            cls=cls,
            dtype=dtype,
            variant=variant,
            version=version,
            given=given,
            span=source_span or span,
        )
        away = [name for name, place in given.items() if not os.path.isdir(place)]
        if target is not None and away and not errors(problems):
            listed = ", ".join(f'"{name}"' for name in away)
            problems.append(_not_known(f"of {listed}", source_span or span))
        return target, [*found, *problems]
    target, problems = by_class(cls, version, span)
    found += problems
    if target is not None and not errors(found):
        found.append(_not_known(f'of "{source}"' if source else "without a source", source_span or span))
    return target, found


def by_class(cls: str, version: str, span: Span | None = None) -> tuple[Target | None, list[Diagnostic]]:
    """A class of the catalogue; an error when a known name is near, else a warning."""
    target = catalogue.find(cls, version)
    if target is not None:
        return target, []
    if cls.endswith(("ModularPipeline", "AutoBlocks")):
        said = f'"{cls}" is a modular pipeline: its components are moved by diffusers\' ComponentsManager'
        return None, [finding(MODULAR, said, span=span, hint="components_manager.enable_auto_cpu_offload()")]
    problem = finding(UNKNOWN_CLASS, f'diffusers {version} has no pipeline class "{cls}"', span=span)
    near = _meant(cls, catalogue.names(version))
    if near is None:
        return None, [problem.at(Severity.WARNING)]
    return None, [replace(problem, hint=f'did you mean "{near}"?')]


def _folder(source: str, relative_to: Path | None) -> Path:
    """Any text is a path to os.path: one too long, or in a home that nobody has, is no folder."""
    return (relative_to or Path()) / os.path.expanduser(source)


def _not_known(where: str, span: Span | None) -> Diagnostic:
    said = f"sizes are not known {where}: whether the plan fits is not checked"
    return finding(SIZES_UNKNOWN, said, span=span)


def _meant(cls: str, names: Iterable[str]) -> str | None:
    """The class that ``cls`` is a slip of. ``MyFluxPipeline`` is none: it is somebody's own class."""
    stems = {_stem(name): name for name in names}
    stem = _stem(cls)
    if stem in stems:
        return stems[stem]
    near = get_close_matches(stem, sorted(stems), n=1, cutoff=0.75)
    if not near or (near[0] in stem and len(stem) - len(near[0]) > 1):
        return None
    return stems[near[0]]


def _stem(cls: str) -> str:
    """What tells pipeline classes apart."""
    return re.sub(r"pip\w*$", "", cls, flags=re.IGNORECASE).casefold() or cls.casefold()


def _builtin(
    name: str, cls: str, dtype: str | None, version: str, span: Span | None
) -> tuple[Target | None, list[Diagnostic]]:
    """A built-in pipeline, as class ``cls`` where that can be loaded from its folder."""
    known = builtins()
    if name not in known:
        said = f'no built-in pipeline "{name}"'
        return None, [finding(UNKNOWN_BUILTIN, said, span=span, hint=did_you_mean(name, known))]
    sizes = known[name]["components"]
    own, wanted = catalogue.find(known[name]["class"], version), catalogue.find(cls, version)
    if own is None:
        return None, []
    has = {n: i for n, i in own.components.items() if n in sizes or not i.module}
    index = Index(cls=own.cls, entries={n: ("diffusers", "".join(i.classes[:1])) for n, i in has.items()})
    base = wanted if wanted is not None and index.suits(wanted, own, ()) else own
    components = {
        key: replace(info, present=key in has, **_sizes(sizes.get(key, {}).get(dtype or "float32")))
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
