"""In which block of a component its modules run: those whose weights may come and go."""

from __future__ import annotations

from typing import Any

from planner.predict.profile import Weights
from planner.target.blocks import streamed


def blocks(module: Any) -> tuple[Weights, dict[int, str]]:
    """The weights of ``module`` block by block, and by ``id`` of each module in a block that block's path."""
    paths = {id(part): path for path, part in module.named_modules()}
    found, groups = streamed(module)
    named = [paths.get(id(group.root), "") for group in groups]
    inside = {id(owner): name for name, group in zip(named, groups, strict=True) for owner in group.owners}
    return Weights(fixed=found.fixed, blocks=tuple(zip(named, found.streamable, strict=True))), inside
