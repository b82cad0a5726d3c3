"""bitsandbytes' 8-bit layers, whose int8 weight and scales are read in one of two places.

``weight.CB`` and ``weight.SCB`` hold them after loading and after ``Tensor.to``; the first forward moves them
to ``layer.state`` (bitsandbytes 0.50, nn/modules.py, ``Linear8bitLt.init_8bit_state``), where ``Module.to``
of a model does not find them any more. So a component under a plan has them in the state, as each forward
wants them, and is moved and given back with them on the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from planner.target.tables import is_eight_bit


def to_states(module: torch.nn.Module) -> None:
    """As after a forward of each 8-bit layer in ``module``; the weight itself is its state's ``CB``, so that
    both are one tensor wherever it is bound. Twice is once."""
    for layer in _layers(module):
        weight, state = layer.weight, layer.state
        if getattr(weight, "CB", None) is not None:
            state.SCB = weight.SCB
            weight.CB = weight.SCB = None
            state.CB = weight
        elif state.CB is not None:
            state.CB = weight


def to_weights(module: torch.nn.Module) -> None:
    """As before the first forward of each 8-bit layer in ``module``. Twice is once."""
    for layer in _layers(module):
        weight, state = layer.weight, layer.state
        if state.CB is not None and getattr(weight, "CB", None) is None:
            weight.CB, weight.SCB = weight.data, state.SCB
            state.CB = state.SCB = None


def _layers(module: torch.nn.Module) -> Iterator[Any]:
    """Those that are quantized; with ``has_fp16_weights`` each forward quantizes anew."""
    found: Iterator[Any] = filter(is_eight_bit, module.modules())
    return (layer for layer in found if not layer.state.has_fp16_weights)
