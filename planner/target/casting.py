"""What loading makes of stored tensors: their bytes in the dtype that they end up in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.target.headers import BYTES, FLOATING, Stored

SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes an element of the dtypes that a pipeline is loaded in."""

TIED = frozenset(("shared.weight", "encoder.embed_tokens.weight"))
"""T5's embedding: older files hold it under both names, and it is loaded once."""


def cast_sizes(tensors: Iterable[Stored], dtype: str, keep: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Name and bytes of each tensor in ``dtype``; what has a part of ``keep`` in its name stays float32."""
    kept = frozenset(keep)
    tied: set[int] = set()
    for tensor in tensors:
        if tensor.name in TIED:
            if tensor.numel in tied:
                continue
            tied.add(tensor.numel)
        size = BYTES[tensor.dtype]
        if tensor.dtype in FLOATING:
            size = 4 if kept.intersection(tensor.name.split(".")) else SIZES[dtype]
        yield tensor.name, tensor.numel * size


def quantized_sizes(tensors: Iterable[Stored], dtype: str) -> Iterator[tuple[str, int]]:
    """The same for a component that is stored quantized: only half-precision weights are cast.

    Approximate: what a backend keeps beside its weights differs from one to the next.
    """
    for tensor in tensors:
        half = tensor.dtype in ("F16", "BF16")
        yield tensor.name, tensor.numel * (SIZES[dtype] if half else BYTES[tensor.dtype])
