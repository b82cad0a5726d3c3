"""The shipped catalogues of diffusers' pipeline classes, one for each supported version.

Made by ``python -m planner.generate``; read without torch and without diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from planner.target.model import ComponentInfo, Target, WalkStage, WalkUse


def versions() -> tuple[str, ...]:
    """The diffusers versions that there is a catalogue for, newest first."""
    names = (entry.name for entry in _data().iterdir())
    found = [n.removeprefix("diffusers-").removesuffix(".json") for n in names if n.startswith("diffusers-")]
    return tuple(sorted(found, key=Version, reverse=True))


def pick(specifier: str | None) -> tuple[str, bool]:
    """The newest version that ``specifier`` admits, and whether there is one; else the newest of all."""
    shipped = versions()
    try:
        admitted = SpecifierSet(specifier or "")
    except InvalidSpecifier:
        return shipped[0], False
    for version in shipped:
        if admitted.contains(version, prereleases=True):
            return version, True
    return shipped[0], False


def names(version: str | None = None) -> tuple[str, ...]:
    """Every pipeline class of a version, sorted."""
    return tuple(_classes(version or versions()[0]))


@cache
def find(cls: str, version: str | None = None) -> Target | None:
    """A class as a target: its components, sequence, exclusions and walk. Sizes are not known."""
    version = version or versions()[0]
    record = _classes(version).get(cls)
    if record is None:
        return None
    walk = _walk(record["walk"]) if record["walk"] else None
    entries = _entries(walk or ())
    return Target(
        cls=cls,
        components={
            name: ComponentInfo(
                name=name,
                classes=tuple(said["classes"]),
                module=said.get("module", False),
                optional=said.get("optional", False),
                entries=tuple(entries.get(name, ())),
            )
            for name, said in record["components"].items()
        },
        sequence=record["sequence"],
        excluded=tuple(record["exclude"]),
        walk=walk,
        version=version,
        origin="catalogue",
        overrides=record["overrides"],
    )


def kept_in_float32(cls: str, dtype: str, version: str | None = None) -> tuple[str, ...]:
    """Parts of weight names that loading class ``cls`` in ``dtype`` keeps in float32."""
    said = _file(version or versions()[0])["keep_float32"].get(cls, {})
    return tuple(said.get("always", ()) if dtype in ("float16", "bfloat16") else ()) + tuple(
        said.get("float16", ()) if dtype == "float16" else ()
    )


def skipped_in_casting(cls: str, version: str | None = None) -> tuple[str, ...]:
    """The patterns of names that model class ``cls`` leaves alone when it is cast."""
    return tuple(_file(version or versions()[0])["skip_casting"].get(cls, ()))


@cache
def models(version: str | None = None) -> frozenset[str]:
    """Every model class that a constructor of this version names: library classes, whose source is known."""
    records = _classes(version or versions()[0]).values()
    return frozenset(
        name for record in records for said in record["components"].values() for name in said["classes"]
    )


def _classes(version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _file(version)["classes"]
    return found


@cache
def _file(version: str) -> Mapping[str, Any]:
    text = (_data() / f"diffusers-{version}.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def _walk(said: Sequence[Any]) -> tuple[WalkStage, ...]:
    return tuple(
        WalkStage(
            id=stage["id"],
            runs=tuple(map(_use, stage.get("runs", ()))),
            stages=_walk(stage.get("stages", ())),
            loop=stage.get("loop", ""),
            optional=stage.get("optional", False),
        )
        for stage in said
    )


def _use(text: str) -> WalkUse:
    component, _, entry = text.partition(".")
    return WalkUse(component=component, entry=entry)


def _entries(walk: Sequence[WalkStage]) -> dict[str, list[str]]:
    """Entry points by component, in the order of the walk."""
    found: dict[str, list[str]] = {}
    for stage in walk:
        for use in stage.runs:
            if use.entry and use.entry not in found.setdefault(use.component, []):
                found[use.component].append(use.entry)
        for name, more in _entries(stage.stages).items():
            found.setdefault(name, []).extend(e for e in more if e not in found.get(name, ()))
    return found


def _data() -> Any:
    return resources.files("planner.target") / "data"
