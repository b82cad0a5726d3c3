"""Folders that are made once and kept: whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import CACHE_UNWRITABLE

HOME = "OFFLOAD_PLANNER_HOME"
MANIFEST = "complete.json"
"""Written last: the SHA-256 of every other file of the folder."""
MAKING = ".making-"
STALE = 24 * 3600
"""Seconds after which a folder that was never finished is taken for a crash's and removed."""


def home() -> Path:
    """``$OFFLOAD_PLANNER_HOME``, else the user's cache folder."""
    said = os.environ.get(HOME)
    return Path(said).expanduser() if said else platformdirs.user_cache_path("offload-planner", False)


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache; ``make(folder)`` fills it if it is not there, or not whole.

    Two processes at once both end with a whole folder: each makes its own beside it, and one rename
    wins. A folder that a crash left, or that lost a file, is made again. Raises PlanError when the
    cache cannot be written.
    """
    folder = home() / name
    try:
        if not whole(folder):
            _make(folder, make)
    except OSError as error:
        said = f'cannot write the cache "{home()}": {error.strerror or error}'
        hint = f"{HOME}=FOLDER puts it elsewhere"
        raise PlanError([finding(CACHE_UNWRITABLE, said, hint=hint)]) from error
    return folder


def whole(folder: Path) -> bool:
    """Every file of the manifest is there, with the bytes that were written."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(listed) and listed == _sums(folder)
    except (OSError, ValueError):
        return False


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    fresh = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder.parent))
    try:
        make(fresh)
        manifest = json.dumps(_sums(fresh), indent=1, sort_keys=True)
        (fresh / MANIFEST).write_text(manifest, encoding="utf-8")
        fresh.chmod(0o755)  # mkdtemp makes it private to the user
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, folder: Path) -> None:
    """Renames ``fresh`` to ``folder``, unless somebody else was first."""
    for _ in range(3):
        try:
            fresh.rename(folder)
            return
        except OSError:
            if whole(folder):
                return
            if not folder.exists():
                raise
            # Not whole: out of the way by a rename, so that nobody reads it while it is removed.
            aside = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder.parent))
            with suppress(FileNotFoundError):  # another process may have the same thought
                folder.rename(aside / "broken")
            shutil.rmtree(aside, ignore_errors=True)
    if not whole(folder):
        raise OSError(f'"{folder}" cannot be replaced')


def _sums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{MAKING}*"):
        try:
            if path.is_dir() and time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another process was faster
