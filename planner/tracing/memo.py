"""Shapes of results, asked of torch once: blocks repeat, and many of torch's meta kernels are slow Python."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from planner.tracing.operations import is_view
from planner.tracing.tensor import META

Spec = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Memo:
    """Runs operations on meta tensors; an operation that was seen with the same inputs is not run again."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[Any, tuple[Spec, ...]]] = {}
        self._never: set[Any] = set()

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``func`` returns for meta tensors."""
        if func in self._never or is_view(func) or func._schema.is_mutable:
            if in_place(func) and isinstance(args[0], torch.Tensor):
                return args[0]
            return func(*args, **kwargs)
        try:
            key = func, _key(args), tuple((name, _key(value)) for name, value in kwargs.items())
            found = self._seen.get(key)
        except TypeError:  # an argument that cannot be a key
            return func(*args, **kwargs)
        if found is not None:
            kind, specs = found
            made = [torch.empty_strided(s, t, dtype=d, device=META) for s, t, d in specs]
            return made[0] if kind is torch.Tensor else kind(made)
        out = func(*args, **kwargs)
        self._keep(key, func, args, out)
        return out

    def _keep(self, key: Hashable, func: Any, args: tuple[Any, ...], out: Any) -> None:
        outs = out if isinstance(out, (list, tuple)) else (out,)
        given = {t.untyped_storage()._cdata for t in _tensors(args)}
        fresh = all(
            isinstance(o, torch.Tensor) and o.device.type == "meta" and o.storage_offset() == 0 for o in outs
        )
        if not fresh or any(o.untyped_storage()._cdata in given for o in outs):
            self._never.add(func)
            return
        kind = torch.Tensor if outs is not out else type(out) if type(out) in (list, tuple) else tuple
        specs = tuple((tuple(o.shape), o.stride(), o.dtype) for o in outs)
        self._seen[key] = kind, specs


def in_place(func: Any) -> bool:
    """It writes to its first argument and returns it, whose shape stays."""
    schema = func._schema
    return (
        len(schema.returns) == 1
        and schema.name.endswith("_")
        and schema.arguments[0].alias_info is not None
        and schema.arguments[0].alias_info.is_write
        and torch.Tag.inplace_view not in func.tags
        and schema.name not in ("aten::resize_", "aten::set_", "aten::resize_as_")
    )


def _key(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key, value))
    return type(value), value


def _tensors(values: Sequence[Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(_tensors(value))
    return found
