"""What is installed, by the metadata of distributions alone: nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.version import InvalidVersion, Version

from planner.quantization.backends import BACKENDS
from planner.quantization.matrix import COLUMNS, ROWS, Needs

DISTRIBUTIONS = tuple(
    sorted(
        {name for backend in BACKENDS.values() for name, _ in backend.needs}
        | {name for row in ROWS for column in COLUMNS for name, _ in row.cells[column].needs}
    )
)
"""Every package that some cell of the matrix asks for."""


def installed(names: Iterable[str] = DISTRIBUTIONS) -> dict[str, str]:
    """The version of each distribution that is installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def lacking(needs: Needs, versions: Mapping[str, str]) -> Needs:
    """Those of ``needs`` that are missing in ``versions`` or too old."""
    return tuple((n, least) for n, least in needs if n not in versions or _older(versions[n], least))


def _older(version: str, least: str) -> bool:
    """A pre-release or local build (0.18.0.dev1+cpu) has what its release has."""
    try:
        return Version(Version(version).base_version) < Version(least)
    except InvalidVersion:
        return False
