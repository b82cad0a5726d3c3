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
    tensors = [sum(map(_tensors, group.owners)) for group in groups]
    outside = sum(map(_tensors, module.modules())) - sum(tensors)
    made = Weights(
        fixed=found.fixed,
        blocks=tuple(zip(named, found.streamable, strict=True)),
        tensors=(outside, *tensors),
    )
    return made, inside


def _tensors(part: Any) -> int:
    return sum(tensor is not None for table in (part._parameters, part._buffers) for tensor in table.values())
