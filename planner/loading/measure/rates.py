"""Operations timed at the sizes that diffusion pipelines have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from planner.loading.measure.timing import seconds_of

WIDTH = 3072
"""Of the rows that norms and products work on."""
GROUP_NORMS = (
    (1, 512, 128 * 128),
    (1, 512, 512 * 512),
    (1, 256, 1024 * 1024),
    (1, 128, 1024 * 1024),
    (2, 320, 128 * 128),
    (2, 640, 64 * 64),
    (2, 1280, 32 * 32),
)
"""Batch, channels and positions, of VAEs and of U-Nets."""
Rows = list[list[float]]
_Point = tuple[tuple[int, ...], int, Callable[[], Callable[[], Any]]]
"""Shape, FLOPs (or bytes), and what makes the tensors and gives the work on them."""

WIDTHS = (
    (640, 640),
    (640, 5120),
    (1280, 1280),
    (1280, 10240),
    (5120, 1280),
    (3072, 3072),
    (3072, 12288),
    (12288, 3072),
    (4096, 10240),
    (5120, 5120),
    (5120, 13824),
)
"""Inner size and width of linear layers: of U-Nets, of transformers, of T5."""
LENGTHS = (1, 77, 512, 1024, 4096, 8192)
"""Rows that go through them: a time embedding, prompts, tokens of pictures."""
CONVS = (
    # batch, channels in and out, kernel, then frames (0: a picture), height, width of the output
    (1, 16, 512, 3, 0, 128, 128),
    (1, 512, 512, 3, 0, 128, 128),
    (1, 512, 512, 3, 0, 256, 256),
    (1, 512, 512, 3, 0, 512, 512),
    (1, 512, 256, 3, 0, 512, 512),
    (1, 256, 256, 3, 0, 512, 512),
    (1, 256, 256, 3, 0, 1024, 1024),
    (1, 256, 128, 3, 0, 1024, 1024),
    (1, 128, 128, 3, 0, 1024, 1024),
    (1, 128, 3, 3, 0, 1024, 1024),
    (1, 512, 256, 1, 0, 512, 512),
    (1, 256, 128, 1, 0, 1024, 1024),
    (2, 4, 320, 3, 0, 128, 128),
    (2, 320, 320, 3, 0, 128, 128),
    (2, 960, 320, 3, 0, 128, 128),
    (2, 640, 640, 3, 0, 64, 64),
    (2, 1920, 640, 3, 0, 64, 64),
    (2, 1280, 1280, 3, 0, 32, 32),
    (2, 2560, 1280, 3, 0, 32, 32),
    (2, 640, 320, 1, 0, 128, 128),
    (1, 384, 384, 3, 1, 60, 104),
    (1, 384, 384, 3, 4, 120, 208),
    (1, 192, 192, 3, 4, 240, 416),
    (1, 96, 96, 3, 4, 480, 832),
)
ATTENTIONS = (
    # batch, heads, queries, keys, head size
    (1, 12, 77, 77, 64),
    (1, 64, 512, 512, 64),
    (2, 10, 4096, 4096, 64),
    (2, 20, 1024, 1024, 64),
    (2, 10, 4096, 77, 64),
    (2, 20, 1024, 77, 64),
    (2, 38, 4429, 4429, 64),
    (1, 24, 1536, 1536, 128),
    (1, 24, 4608, 4608, 128),
    (1, 24, 16384, 16384, 128),
    (1, 40, 8192, 8192, 128),
    (1, 40, 8192, 512, 128),
    (1, 1, 16384, 16384, 512),
)
SIZES = tuple(1 << n for n in (14, 17, 20, 22, 24, 26, 28, 30))
"""Bytes that an operation which computes little reads and writes."""


def matmul(
    device: torch.device, dtype: torch.dtype, lengths: tuple[int, ...] = LENGTHS, widths: Any = WIDTHS
) -> Rows:
    """Rows of batch, m, n, k and FLOP/s, of linear layers with a bias."""

    def make(m: int, n: int, k: int) -> Callable[[], Any]:
        rows, weight, bias = (_random(shape, device, dtype) for shape in ((m, k), (n, k), (n,)))
        return lambda: F.linear(rows, weight, bias)

    return _timed(
        (((1, m, n, k), 2 * m * n * k, partial(make, m, n, k)) for k, n in widths for m in lengths), device
    )


def conv(device: torch.device, dtype: torch.dtype, sizes: Any = CONVS) -> Rows:
    """Rows of batch, channels in and out, positions, kernel volume and FLOP/s, over NCHW memory, with a bias
    (cuDNN's leave that to an operation of its own)."""

    def make(batch: int, inner: int, outer: int, kernel: int, *space: int) -> Callable[[], Any]:
        rows = _random((batch, inner, *space), device, dtype)
        weight, bias = (
            _random(shape, device, dtype) for shape in ((outer, inner, *[kernel] * len(space)), (outer,))
        )
        run: Any = F.conv3d if len(space) == 3 else F.conv2d
        return lambda: run(rows, weight, bias, padding=kernel // 2)

    def points() -> Iterator[_Point]:
        for batch, inner, outer, kernel, frames, height, width in sizes:
            space = (frames, height, width) if frames else (height, width)
            volume, positions = kernel ** len(space), math.prod(space)
            flops = 2 * batch * positions * outer * inner * volume
            yield (
                (batch, inner, outer, positions, volume),
                flops,
                partial(make, batch, inner, outer, kernel, *space),
            )

    return _timed(points(), device)


def attention(device: torch.device, dtype: torch.dtype, sizes: Any = ATTENTIONS) -> Rows:
    """Rows of batch, heads, queries, keys, head size and FLOP/s, by the kernel that torch chooses."""

    def make(batch: int, heads: int, queries: int, keys: int, size: int) -> Callable[[], Any]:
        q, k, v = (_random((batch, heads, n, size), device, dtype) for n in (queries, keys, keys))
        return lambda: F.scaled_dot_product_attention(q, k, v)

    return _timed(
        (((b, h, q, k, d), 4 * b * h * q * k * d, partial(make, b, h, q, k, d)) for b, h, q, k, d in sizes),
        device,
    )


def memory(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...] = SIZES) -> Rows:
    """Rows of bytes and bytes a second: the mean of what blocks are full of between their products (a
    product with a row, a sum, an activation, a norm, a cast, a change of layout). ``sizes``: bytes read and
    written by each."""
    rows: Rows = []
    for nbytes in sizes:
        count = max(128, nbytes // 2 // dtype.itemsize // WIDTH * WIDTH)
        try:
            works = _light(count, device, dtype)
            with torch.no_grad():
                seconds = sum(seconds_of(work, device) for _, work in works)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        rows.append([nbytes, sum(each for each, _ in works) * count / seconds])
    return rows


def _light(count: int, device: torch.device, dtype: torch.dtype) -> list[tuple[int, Callable[[], Any]]]:
    """Bytes of each element, read and written, and the operation over ``count`` of them."""
    width = math.gcd(count, 3072)
    values, row = _random((count // width, width), device, dtype), _random((width,), device, dtype)
    other = torch.bfloat16 if dtype == torch.float32 else torch.float32
    heads, both = values.view(-1, width // 128, 128).transpose(0, 1), 2 * dtype.itemsize
    return [
        (both, lambda: values * row),
        (both, lambda: values + values),
        (both, lambda: F.gelu(values, approximate="tanh")),
        (both, lambda: F.layer_norm(values, (width,))),
        (dtype.itemsize + other.itemsize, lambda: values.to(other)),
        (both, heads.contiguous),
    ]


def group_norm(device: torch.device, dtype: torch.dtype, sizes: Any = GROUP_NORMS) -> Rows:
    """Rows of batch, channels, positions and bytes a second (read and written once) of a norm of 32 groups:
    torch has one block of threads for a group, so few of the card's multiprocessors work."""

    def make(batch: int, channels: int, positions: int) -> Callable[[], Any]:
        values = _random((batch, channels, positions), device, dtype)
        return lambda: F.group_norm(values, 32)

    return _timed(
        ((size, 2 * math.prod(size) * dtype.itemsize, partial(make, *size)) for size in sizes), device
    )


def _timed(points: Iterable[_Point], device: torch.device) -> Rows:
    """A row a point. Points for which there is no room are left out."""
    rows: Rows = []
    for shape, flops, make in points:
        try:
            with torch.no_grad():
                rows.append([*shape, flops / seconds_of(make(), device)])
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return rows


def _random(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Numbers as they come: on zeros a card draws less power, and is faster than it will be."""
    return torch.randn(shape, device=device, dtype=torch.float32).mul_(0.02).to(dtype)
