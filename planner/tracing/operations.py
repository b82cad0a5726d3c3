"""Operations counted: which class an operation is of, its floating-point operations and bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from planner.tracing.ledger import Ledger
from planner.tracing.tensor import Traced

aten = torch.ops.aten

Shape = tuple[int, ...]


def _product(left: Shape, right: Shape) -> Shape:
    """Batch, m, n, k."""
    return (math.prod(left[:-2]), left[-2], right[-1], left[-1])


MATMULS: dict[Any, Callable[[Sequence[Any]], Shape]] = {
    aten.mm.default: lambda a: _product(a[0].shape, a[1].shape),
    aten.bmm.default: lambda a: _product(a[0].shape, a[1].shape),
    aten.addmm.default: lambda a: _product(a[1].shape, a[2].shape),
    aten.baddbmm.default: lambda a: _product(a[1].shape, a[2].shape),
    aten._addmm_activation.default: lambda a: _product(a[1].shape, a[2].shape),
    aten.mv.default: lambda a: (1, a[0].shape[0], 1, a[0].shape[1]),
    aten.addmv.default: lambda a: (1, a[1].shape[0], 1, a[1].shape[1]),
    aten.dot.default: lambda a: (1, 1, 1, a[0].shape[0]),
}

NOTHING = frozenset(
    {
        "aten::empty",
        "aten::empty_strided",
        "aten::empty_like",
        "aten::new_empty",
        "aten::new_empty_strided",
        "aten::empty_permuted",
    }
)
"""They allocate and compute nothing."""


def count(
    ledger: Ledger, func: Any, inputs: Sequence[Any], args: Sequence[Any], outputs: Sequence[Any]
) -> None:
    """Counts ``func`` on tensors of the GPU: ``inputs`` and ``outputs`` bear shapes (meta tensors)."""
    if not outputs or is_view(func) or func._schema.name in NOTHING:
        return
    size = sum(map(nbytes, inputs)) + sum(map(nbytes, outputs))
    dtype = name(outputs[0].dtype)
    if (shape := MATMULS.get(func)) is not None:
        b, m, n, k = shape(args)
        ledger.count("matmul", name(inputs[0].dtype), 2 * b * m * n * k, size, (b, m, n, k))
    else:
        norm = _group_norm(func, inputs)
        ledger.count("memory", dtype, sum(t.numel() for t in outputs), size, norm)


def _group_norm(func: Any, inputs: Sequence[Any]) -> tuple[int, ...]:
    """Batch, channels and positions of a group norm, by which a card knows it; () of anything else."""
    if func is not aten.native_group_norm.default:
        return ()
    batch, channels, *space = inputs[0].shape
    return (batch, channels, math.prod(space))


@cache
def is_view(func: Any) -> bool:
    """Its result lies in its input's memory."""
    returns = func._schema.returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def nbytes(tensor: torch.Tensor) -> int:
    """Bytes that are read: what is expanded is read once."""
    size = tensor.numel() * tensor.element_size()
    return min(size, tensor.untyped_storage().nbytes())


def name(dtype: torch.dtype) -> str:
    """As profiles have it: "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def shapes(values: Any) -> list[torch.Tensor]:
    """The meta tensors of ``values``, lists within too."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, Traced):
            found.append(value.meta)
        elif isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(shapes(value))
    return found
