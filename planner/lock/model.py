"""A lock: what a plan was compiled from and to what, as plain values, with a digest of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.document.file import PLAN_ENDS

FORMAT = 1
ENDS = ".plan.lock.json"
NAME = "lock.v1.schema.json"


@dataclass(frozen=True, slots=True)
class Lock:
    """``content``: the values of ``schemas/lock.v1.schema.json`` without ``format`` and ``digest``."""

    content: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the content as JSON: the same whatever it is laid out as."""
        text = json.dumps(self.content, separators=(",", ":"), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The file. The same content gives the same bytes."""
        values = {"format": FORMAT, "digest": self.digest, **self.content}
        return json.dumps(values, indent=2, ensure_ascii=True) + "\n"


def lock_path(plan: str | Path) -> Path:
    """Where the lock of a plan's file is: ``flux.plan.lock.json`` beside ``flux.plan.yaml``."""
    path = Path(plan)
    stem = next((path.name[: -len(end)] for end in PLAN_ENDS if path.name.endswith(end)), path.stem)
    return path.with_name(stem + ENDS)


def is_lock(path: str | Path) -> bool:
    """Whether a file is a lock, by its name."""
    return str(path).endswith(".lock.json")
