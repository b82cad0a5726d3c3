"""model_index.json: the class of a folder's pipeline, and where each component's class comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.target.headers import Broken, read_json
from planner.target.model import Target

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """``entries``: library and class by component, both None for one that is None."""

    cls: str
    entries: Mapping[str, tuple[str, str] | tuple[None, None]]

    def lacks(self, known: Target, given: Collection[str]) -> tuple[str, ...]:
        """What class ``known`` must have, and neither the folder nor ``given`` has.

        diffusers 0.42.1 (pipeline_utils.py:1090) refuses to load a pipeline without them.
        """
        return tuple(
            name
            for name, info in known.components.items()
            if not info.optional and name not in given and self.entries.get(name, (None,))[0] is None
        )

    def suits(self, wanted: Target, own: Target | None, given: Collection[str]) -> bool:
        """Whether the folder of an ``own`` pipeline can be loaded as a ``wanted`` one.

        It has all that is needed, and its models are of the classes that the other takes.
        """
        if self.lacks(wanted, given):
            return False
        for name, info in wanted.components.items():
            cls = self.entries.get(name, (None, None))[1]
            if cls is None or not info.module or name in given or cls in info.classes:
                continue
            if own is None or name not in own.components or own.components[name].classes != info.classes:
                return False
        return True


def read_index(folder: Path) -> Index:
    """The index of ``folder``. Raises Broken."""
    said = read_json(folder / INDEX)
    if not isinstance(said, dict):
        raise Broken(f"{INDEX} is no mapping")
    entries = {name: entry for name, value in said.items() if (entry := _entry(name, value)) is not None}
    return Index(cls=_class_name(said), entries=entries)


def _class_name(said: Mapping[str, Any]) -> str:
    """``[module, class]`` stands for a class whose code is in the folder."""
    match said.get("_class_name"):
        case str() as name:
            return name
        case [str(), str() as name]:
            return name
    raise Broken(f"{INDEX} names no class")


def _entry(name: str, value: Any) -> tuple[str, str] | tuple[None, None] | None:
    """None for what is no component: a setting of the pipeline, or a name that leads out of the folder."""
    if name.startswith("_") or not name.isidentifier():
        return None
    match value:
        case [str() as library, str() as cls]:
            return library, cls
        case [None, None]:
            return None, None
    return None
