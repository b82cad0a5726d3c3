"""What two uses of a component have in common that take the same activations."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any

import torch

_PLAIN = (bool, int, float, str)
_SETTINGS = (bool, int, float)
"""Strings say where a module comes from."""


def signature(module: torch.nn.Module | None, entry: str, given: Any) -> str:
    """Of a call of ``module`` through ``entry`` with the arguments ``given``: shapes and dtypes of tensors,
    plain values, and the module's own settings (``use_tiling``), as a digest that is the same in every
    process. Two uses with one signature need memory alike; of a submodule's settings nothing is known."""
    settings = {} if module is None else vars(module)
    own = sorted(
        (name, value)
        for name, value in settings.items()
        if isinstance(value, _SETTINGS) and not name.startswith("_")
    )
    said = repr((entry, torch.is_grad_enabled(), own, _of(given)))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _of(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, dict):
        return tuple((key, _of(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_of, value))
    return value if isinstance(value, _PLAIN) else type(value).__name__
