"""Batches whose calls, and the writing of whose outputs, take longer than those of small pipelines do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALL, WRITE = "OFFLOAD_PLANNER_SLOW_CALL", "OFFLOAD_PLANNER_SLOW_WRITE"
STARTED = f"""import os
if os.environ.get("{CALL}"):
    from slowed import slow
    slow()
"""
"""What Python runs in each process that finds it on its path: workers have no other way in."""


def on_path(folder: Path) -> dict[str, str]:
    """The environment of processes that find these tests, and ``folder`` before them."""
    path = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def environment(folder: Path, call: float, write: float) -> dict[str, str]:
    """In which each call, and each writing of an output, takes so many seconds more; ``folder`` gets what
    does that."""
    (folder / "sitecustomize.py").write_text(STARTED)
    (folder / "slowed.py").write_text(Path(__file__).read_text())
    return on_path(folder) | {CALL: str(call), WRITE: str(write)}


def slow() -> None:
    """In this process, by its environment."""
    from planner.batches.work import Work
    from planner.loading import outputs

    _later(Work, "_attempted", float(os.environ[CALL]))
    _later(outputs, "_all_or_none", float(os.environ[WRITE]))


def _later(owner: Any, name: str, seconds: float) -> None:
    before: Callable[..., Any] = getattr(owner, name)

    def after(*given: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return before(*given, **options)

    setattr(owner, name, after)
