"""A pipeline as it was found: what ``remove()`` and a failed apply must give back by identity."""

from __future__ import annotations

from typing import Any

import torch

Shape = dict[str, Any]

_TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


def modules_of(pipe: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def as_found(pipe: Any) -> Shape:
    """The class and ``__dict__`` of the pipeline and of each module, tensors, hooks and values by identity.
    It keeps them all alive, so that an ``id`` is theirs alone."""
    found: Shape = {"pipeline class": type(pipe)}
    found |= {f"pipeline.{key}": _Same(value) for key, value in vars(pipe).items()}
    for name, part in modules_of(pipe).items():
        for path, module in part.named_modules(remove_duplicate=False):
            at = f"{name}.{path}"
            found[f"{at} class"] = _Same(type(module))
            found |= {f"{at}.{key}": _Same(value) for key, value in vars(module).items()}
            for table in _TABLES:
                found |= {f"{at}.{table}.{key}": _Same(v) for key, v in vars(module).get(table, {}).items()}
    return found


def difference(before: Shape, now: Shape, noise: frozenset[str] = frozenset()) -> list[str]:
    """The places that are not the same, but for those of ``noise``."""
    keys = [key for key in (before.keys() | now.keys()) - noise if before.get(key) != now.get(key)]
    return sorted(keys)


def on_device(pipe: Any, kind: str = "sim") -> list[str]:
    """Tensors that lie there."""
    return [
        f"{name}.{path}"
        for name, part in modules_of(pipe).items()
        for path, tensor in (*part.named_parameters(), *part.named_buffers())
        if tensor.device.type == kind
    ]


class _Same:
    """Equal by identity of what it holds, and of plain values by value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return False
        plain = isinstance(self.value, (int, float, str, bool, tuple, type(None)))
        return self.value is other.value or (plain and bool(self.value == other.value))

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"{type(self.value).__name__} at {id(self.value):x}"
