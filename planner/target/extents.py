"""Which bytes of a storage tensors lie in, and how host memory is laid out. Duck-typed: nothing here needs
torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

PIECE = 512 << 20
"""Bytes of host memory that are registered at once."""
PACKED = 4 << 20
"""Bytes: smaller tensors are packed. A copy of this size reaches the full rate of a PCIe 5 link."""


def is_packed(nbytes: int) -> bool:
    """Whether so many bytes are moved together with others before they are registered; others stay where they
    lie, unless that is a mapped file."""
    return nbytes < PACKED


def extent(tensor: Any) -> tuple[int, int]:
    """First and one-past-last byte of a strided tensor in its storage."""
    if tensor.numel() == 0:
        return 0, 0
    size = tensor.element_size()
    first = int(tensor.storage_offset())
    last = first + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (last + 1) * size


def merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Overlapping ranges joined, sorted; ranges that only touch stay apart."""
    current: tuple[int, int] | None = None
    for start, end in sorted(set(ranges)):
        if current is not None and start < current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current
