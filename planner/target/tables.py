"""The tables in which modules keep their tensors. Duck-typed: torch modules, and what stands for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

EIGHT_BIT = ("CB", "SCB")
"""The int8 weight and its scales in the ``state`` of a layer of bitsandbytes (0.50)."""


def tensors_of(owner: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Every tensor that ``owner`` itself computes with, with the table and key that it stands under: its
    parameters and buffers, and the state of a layer that bitsandbytes quantized to 8 bits."""
    for table in (owner._parameters, owner._buffers):
        yield from ((table, key, tensor) for key, tensor in table.items() if tensor is not None)
    if is_eight_bit(owner):
        state = vars(owner.state)
        yield from ((state, key, tensor) for key in EIGHT_BIT if (tensor := state.get(key)) is not None)


def is_eight_bit(module: Any) -> bool:
    """Whether it is a layer of bitsandbytes with 8-bit weights."""
    return any(
        cls.__name__ == "Linear8bitLt" and cls.__module__.startswith("bitsandbytes")
        for cls in type(module).__mro__
    )
