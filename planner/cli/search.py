"""Which plans are meant: files, folders that are searched, patterns, standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p0_tool import NO_PLANS

PATTERN = "*.plan.yaml"
STDIN = Path("-")


def plans(paths: Iterable[Path], exclude: Sequence[str] = ()) -> list[Path]:
    """Plan files, each once, those of a folder sorted. A file is taken whatever its name, a pattern
    (``**/*.yaml``) is what fits it; hidden folders are not searched, unless one is named.

    ``exclude``: patterns of what a search leaves out, by its path, its name, or a folder above it. Raises
    PlanError for a search that finds nothing.
    """
    found = dict.fromkeys(file for path in paths for file in _meant(path, exclude))
    return [*found]


def _meant(path: Path, exclude: Sequence[str]) -> Iterator[Path]:
    if path == STDIN or (not os.path.isdir(path) and (os.path.exists(path) or not glob.has_magic(str(path)))):
        yield path
        return
    if os.path.isdir(path):
        inside, what = sorted(_inside(path)), f'no file named {PATTERN} in "{path}"'
    else:
        # glob leaves out what is hidden, as a shell does
        inside, what = sorted(map(Path, glob.glob(str(path), recursive=True))), f'nothing fits "{path}"'
    kept = [file for file in inside if file.is_file() and not _excluded(file, exclude)]
    if not kept:
        left = f", {len(inside)} excluded" if inside else ""
        raise PlanError([finding(NO_PLANS, what + left)])
    yield from kept


def _inside(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if fnmatch(name, PATTERN))


def _excluded(file: Path, patterns: Sequence[str]) -> bool:
    """By its own path or name, or by those of a folder that it lies in."""
    above = [file, *file.parents]
    return any(
        fnmatch(part.as_posix(), pattern) or fnmatch(part.name, pattern)
        for pattern in (p.rstrip("/").removeprefix("./") for p in patterns)
        for part in above
    )
