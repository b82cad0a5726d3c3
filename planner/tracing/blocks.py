"""In which block of a component its modules run: those whose weights may come and go."""

from __future__ import annotations

from typing import Any

from planner.target.blocks import groups_of, may_leave


def blocks(module: Any) -> dict[int, str]:
    """The path of its block by ``id`` of each module below ``module``, "" for what always stays."""
    paths = {id(part): path for path, part in module.named_modules()}
    found: dict[int, str] = {}
    for group in groups_of(module):
        name = paths.get(id(group.root), "") if may_leave(group) else ""
        for owner in group.owners:
            found[id(owner)] = name
    return found
