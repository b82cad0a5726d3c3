"""Paths that a plan names, which are relative to the plan."""

from __future__ import annotations

from pathlib import Path

from planner.plan.model import Plan

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Files that can run code when they are read."""


def beside(plan: Plan, text: str) -> Path:
    """The path that ``text`` means in ``plan``; ``~`` is the user's home."""
    sources = plan.document.sources
    return (Path(sources[0].name).parent if sources else Path()) / Path(text).expanduser()
