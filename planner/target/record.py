"""One class's record in a catalogue as a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.target.call import read_call
from planner.target.model import ComponentInfo, Target, WalkStage, WalkUse


def target_of_record(cls: str, record: Mapping[str, Any], version: str) -> Target:
    """Its components, sequence, exclusions, walk and call. Sizes are not known. ``version``: of diffusers."""
    walk = _walk(record["walk"]) if record["walk"] else None
    entries = _entries(walk or ())
    said = record.get("call")
    return Target(
        cls=cls,
        components={
            name: ComponentInfo(
                name=name,
                classes=tuple(component["classes"]),
                module=component.get("module", False),
                optional=component.get("optional", False),
                entries=tuple(entries.get(name, ())),
            )
            for name, component in record["components"].items()
        },
        sequence=record["sequence"],
        excluded=tuple(record["exclude"]),
        walk=walk,
        version=version,
        origin="catalogue",
        overrides=record["overrides"],
        module=record.get("module", ""),
        call=None if said is None else read_call(said),
    )


def _walk(said: Sequence[Any]) -> tuple[WalkStage, ...]:
    return tuple(map(_stage, said))


def _stage(said: Mapping[str, Any]) -> WalkStage:
    optional = said.get("optional", False)
    some = () if isinstance(optional, bool) else optional
    return WalkStage(
        id=said["id"],
        runs=tuple(_use(text, optional=text in some) for text in said.get("runs", ())),
        stages=_walk(said.get("stages", ())),
        loop=said.get("loop", ""),
        optional=optional is True,
    )


def optional_of(stage: WalkStage) -> bool | list[str]:
    """What a record says of it: whether all of a stage may not run, else which of its uses."""
    return stage.optional or [str(use) for use in stage.runs if use.optional]


def _use(text: str, *, optional: bool) -> WalkUse:
    component, _, entry = text.partition(".")
    return WalkUse(component=component, entry=entry, optional=optional)


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
