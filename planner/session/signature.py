"""What two uses of a component have in common that take the same activations."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

_PLAIN = (bool, int, float, str)


def signature(module: torch.nn.Module | None, entry: str, given: Any) -> Hashable:
    """Of a call of ``module`` through ``entry`` with the arguments ``given``: shapes and dtypes of tensors,
    plain values, and the module's own plain settings (``use_tiling``). Two uses with one signature need
    memory alike; of a submodule's settings nothing is known."""
    settings = {} if module is None else vars(module)
    own = tuple((name, value) for name, value in settings.items() if isinstance(value, _PLAIN))
    return entry, torch.is_grad_enabled(), own, _of(given)


def _of(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    if isinstance(value, dict):
        return tuple((key, _of(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_of, value))
    return value if isinstance(value, _PLAIN) else type(value).__name__
