"""By what two uses are one: the shapes, layouts and small integers of inputs; outputs made again."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Hashable
from typing import Any

import torch

from planner.tracing.tensor import CPU, Traced

SMALL = 64
"""Elements of the largest tensor of integers whose values tell uses apart (lengths, grids, sizes)."""

NUMBERS = (int, float, str, bool, type(None))

TIMES = frozenset({"t", "r", "timestep", "timesteps", "timestep_r", "timestep_ratio", "sigma", "noise_level"})
"""Arguments that say when in the call a use is, which changes no shape."""


def mark(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Equal for calls that allocate and compute alike. ``function``: whose parameters these are."""
    return (*(_of(name, value) for name, value in _named(function, args, kwargs)),)


def _named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    try:
        names = [*inspect.signature(function).parameters]
    except (TypeError, ValueError):
        names = []
    said = [(names[i] if i < len(names) else str(i), value) for i, value in enumerate(args)]
    return said + sorted(kwargs.items(), key=lambda item: item[0])


def _of(name: str, value: Any) -> Hashable:
    time = name in TIMES
    if isinstance(value, torch.Tensor):
        whole = not (value.is_floating_point() or value.is_complex() or isinstance(value, Traced))
        values = whole and not time and value.numel() <= SMALL
        said = tuple(value.flatten().tolist()) if values else None
        return name, tuple(value.shape), str(value.dtype), value.stride(), said
    if isinstance(value, NUMBERS):
        return name, type(value).__name__ if time or isinstance(value, float) else value
    if isinstance(value, (list, tuple)):
        return name, type(value).__name__, *(_of(name, v) for v in value)
    if isinstance(value, dict):
        return name, *(_of(str(key), v) for key, v in value.items())
    return name, type(value).__name__


def shapes(values: Any) -> tuple[tuple[int, ...], ...]:
    """Of all tensors in ``values``, in order."""
    from torch.utils._pytree import tree_leaves

    return tuple(tuple(v.shape) for v in tree_leaves(values) if isinstance(v, torch.Tensor))


def again(out: Any, depth: int = 0) -> Any:
    """``out`` for the pipeline: zeros on the CPU for tensors without data."""
    if isinstance(out, Traced):
        return torch.zeros(out.shape, dtype=out.dtype) if out.value is None else out.value.clone()
    if isinstance(out, NUMBERS):
        return out
    if isinstance(out, tuple) and hasattr(out, "_fields"):
        return type(out)(*(again(v, depth + 1) for v in out))
    if type(out) in (list, tuple):
        return type(out)(again(v, depth + 1) for v in out)
    if type(out) is dict:
        return {key: again(v, depth + 1) for key, v in out.items()}
    if isinstance(out, dict):  # an output of transformers' or diffusers'
        try:
            return type(out)(**{key: again(v, depth + 1) for key, v in out.items()})
        except TypeError:
            return out
    return _object(out, depth)


def _object(out: Any, depth: int) -> Any:
    """Such as a distribution, with its tensors made again."""
    held = getattr(out, "__dict__", {})
    if depth > 2 or not any(isinstance(v, Traced) for v in held.values()):
        return out
    made = copy.copy(out)
    for key, value in held.items():
        made.__dict__[key] = again(value, depth + 1)
    if isinstance(made.__dict__.get("device"), torch.device):
        made.__dict__["device"] = CPU
    return made
