"""Tensors made of others: quantized weights have scales and tables beside their bytes. Duck-typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

STATE = ("absmax", "code", "offset")
"""The tensors of bitsandbytes' ``QuantState`` (0.50); its ``state2`` is another one, of the scales."""


def held(tensor: Any) -> Iterator[Any]:
    """The tensors that hold a tensor's bytes, in an order of their own: itself, those inside of a wrapper
    (torchao's and quanto's, which name them by torch's ``__tensor_flatten__``), or itself and its state
    (bitsandbytes)."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from held(getattr(tensor, name))
        return
    yield tensor
    if type(tensor).__module__.startswith("bitsandbytes"):
        yield from _state(getattr(tensor, "quant_state", None))
        scales = getattr(tensor, "SCB", None)  # of 8-bit weights
        if scales is not None:
            yield scales


def _state(state: Any) -> Iterator[Any]:
    while state is not None:
        yield from (found for name in STATE if (found := getattr(state, name, None)) is not None)
        state = state.state2
