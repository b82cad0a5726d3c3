"""A hub's pipeline in the cache of this machine: which commit is there, and its folder. Nothing is asked of a
network, and nothing of huggingface_hub, which the base install does not have."""

from __future__ import annotations

import os
from pathlib import Path

from planner.target.place import INDEX, place_of


def cached(source: str, revision: str | None = None) -> tuple[Path, str] | None:
    """The folder of ``source`` at ``revision`` (``main``) and its commit; None where it is not in the cache.

    The cache is where huggingface_hub 1.x (constants.py) has it: ``HF_HUB_CACHE``, else ``hub`` under
    ``HF_HOME``, else under ``huggingface`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if place_of(source).kind != "hub":
        return None
    repository = _home() / ("models--" + source.replace("/", "--"))
    if not repository.is_dir():
        return None
    place = place_of(str(repository), revision=revision or "main")
    if place.kind != "folder" or not (place.path / INDEX).is_file():
        return None
    return place.path, place.path.name


def _home() -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if said := os.environ.get(variable):
            return Path(said).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"
