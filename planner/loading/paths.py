"""Paths that a plan names, which are relative to the plan."""

from __future__ import annotations

from pathlib import Path

from planner.plan.model import Plan
from planner.target.place import Place, place_of


def beside(plan: Plan, text: str) -> Path:
    """The path that ``text`` means in ``plan``; ``~`` is the user's home."""
    sources = plan.document.sources
    return (Path(sources[0].name).parent if sources else Path()) / Path(text).expanduser()


def place(plan: Plan, source: str, revision: str | None = None, *, owned: bool = False) -> Place:
    """What ``source`` stands for in ``plan``; ``owned``: a hub's id has an owner."""
    sources = plan.document.sources
    return place_of(source, Path(sources[0].name).parent if sources else None, revision, owned=owned)
