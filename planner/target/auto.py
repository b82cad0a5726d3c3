"""Classes that stand for others: which pipeline a folder's own class means under them.

``data/auto.json`` has the tables of diffusers' ``auto_pipeline.py``: of which kind of model each class is,
and for each task the class of every kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

ANY = "DiffusionPipeline"


def is_generic(cls: str) -> bool:
    """Whether ``cls`` is none that runs: a folder says which one is meant."""
    return cls == ANY or (bool(cls) and cls in _tables()["tasks"])


def meant(cls: str, own: str) -> str | None:
    """The class that generic ``cls`` stands for on the folder of an ``own`` pipeline, None where diffusers
    knows none for that task."""
    if cls == ANY:
        return own
    found: str | None = _tables()["tasks"][cls].get(_tables()["kinds"].get(own))
    return found


@cache
def _tables() -> Mapping[str, Any]:
    text = (resources.files("planner.target") / "data" / "auto.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found
