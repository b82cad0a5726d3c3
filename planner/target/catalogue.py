"""What is known of pipeline classes: diffusers' own, in a file that ships for each supported version, and a
user's own, in files like it.

Made by ``python -m planner.generate`` and ``plan catalogue``; read without torch and without diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from planner.target.model import Target
from planner.target.record import target_of_record

Own = tuple[Mapping[str, Any], ...]
"""Catalogues of a user's own classes, of the shape of ``schemas/catalogue.v1.schema.json``. Of two that have
a class the first counts, and before what ships."""


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


@dataclass(frozen=True)
class Catalogue:
    """The classes of one diffusers version, behind those of a user's own."""

    version: str
    own: Own = ()

    def find(self, cls: str) -> Target | None:
        """A class as a target: its components, sequence, exclusions, walk and call. Sizes are not known."""
        for file in self.own:
            if (record := file["classes"].get(cls)) is not None:
                return target_of_record(cls, record, file["diffusers"])
        return find(cls, self.version)

    def names(self) -> tuple[str, ...]:
        """Every pipeline class, sorted."""
        return tuple(sorted({name for file in self._files() for name in file["classes"]}))

    def kept_in_float32(self, cls: str, dtype: str) -> tuple[str, ...]:
        """Parts of weight names that loading model class ``cls`` in ``dtype`` keeps in float32."""
        said = self._of_model("keep_float32", cls, {})
        return tuple(said.get("always", ()) if dtype in ("float16", "bfloat16") else ()) + tuple(
            said.get("float16", ()) if dtype == "float16" else ()
        )

    def skipped_in_casting(self, cls: str) -> tuple[str, ...]:
        """The patterns of names that model class ``cls`` leaves alone when it is cast."""
        return tuple(self._of_model("skip_casting", cls, ()))

    def _of_model(self, key: str, cls: str, default: Any) -> Any:
        return next((file[key][cls] for file in self._files() if cls in file.get(key, ())), default)

    def _files(self) -> Own:
        return (*self.own, _file(self.version))


def names(version: str | None = None) -> tuple[str, ...]:
    """Every pipeline class that ships with a version, sorted."""
    return Catalogue(version or versions()[0]).names()


@cache
def find(cls: str, version: str | None = None) -> Target | None:
    """A class that ships with a version (``Catalogue.find``)."""
    version = version or versions()[0]
    record = _file(version)["classes"].get(cls)
    return None if record is None else target_of_record(cls, record, version)


def kept_in_float32(cls: str, dtype: str, version: str | None = None) -> tuple[str, ...]:
    """``Catalogue.kept_in_float32`` of a version."""
    return Catalogue(version or versions()[0]).kept_in_float32(cls, dtype)


def skipped_in_casting(cls: str, version: str | None = None) -> tuple[str, ...]:
    """``Catalogue.skipped_in_casting`` of a version."""
    return Catalogue(version or versions()[0]).skipped_in_casting(cls)


@cache
def models(version: str | None = None) -> frozenset[str]:
    """Every model class that a constructor of this version names: library classes, whose source is known."""
    records = _file(version or versions()[0])["classes"].values()
    return frozenset(
        name for record in records for said in record["components"].values() for name in said["classes"]
    )


@cache
def _file(version: str) -> Mapping[str, Any]:
    text = (_data() / f"diffusers-{version}.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def _data() -> Any:
    return resources.files("planner.target") / "data"
