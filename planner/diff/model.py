"""Two plans, or a plan and its lock, side by side by what they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.lock.compare import Difference, differences

FORMAT = 1
UNTOLD = ("plan",)
"""What is no meaning: two files have two names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """``name``: of the file; ``content``: what a lock says of it, None for no plan (a file that git adds)."""

    name: str
    content: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """``differences`` in the order of a lock's keys; of a side that is no plan there are none."""

    a: Side
    b: Side
    differences: tuple[Difference, ...]

    @property
    def differ(self) -> bool:
        """Whether they do anything differently; being no plan is different from being one."""
        return bool(self.differences) or (self.a.content is None) != (self.b.content is None)

    @property
    def picture(self) -> bool:
        """Whether something that changes pixels differs: the pipeline or its weights too."""
        keys = ("class", "source", "variant", "revision", "commit")
        return any(
            d.section == "picture"
            or (d.section == "pipeline" and d.path[0] in keys)
            or (d.section == "components" and d.path[-1] == "source")
            for d in self.differences
        )

    def to_json(self) -> str:
        """As ``schemas/diff.v1.schema.json`` says; the same sides give the same bytes."""
        values = {
            "format": FORMAT,
            "a": self.a.name,
            "b": self.b.name,
            "differ": self.differ,
            "picture": self.picture,
            "only": "b" if self.a.content is None else "a" if self.b.content is None else None,
            "differences": [
                {"section": d.section, "path": list(d.path), "a": d.a, "b": d.b} for d in self.differences
            ],
        }
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def diff_of(a: Side, b: Side) -> Diff:
    """``a`` and ``b`` compared."""
    found: tuple[Difference, ...] = ()
    if a.content is not None and b.content is not None:
        found = tuple(d for d in differences(a.content, b.content) if d.section not in UNTOLD)
    return Diff(a=a, b=b, differences=found)
