"""Convolutions: the shape and layout of the output, and the scratch that cuDNN takes.

Measured on an H200 with cuDNN 9.19, 90 convolutions of pipelines' own: over memory that is not channels-last,
a kernel larger than 1 takes its input and output once more, re-laid (their channels padded to 16 bytes), and
its weight; over channels-last memory the weight, and what has to be padded. A kernel of 1 takes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from planner.cards.kernels import Kernels

ALIGNED = 16
"""Bytes to whose multiples a pixel's channels are padded."""
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(tensor: torch.Tensor) -> bool:
    """Whether its memory is channels-last, and not NCHW as well."""
    layout = LAST.get(tensor.dim())
    return layout is not None and tensor.is_contiguous(memory_format=layout) and not tensor.is_contiguous()


def output(
    source: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    more: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """On meta, laid as cuDNN lays it: channels-last if the input or the weight is."""
    count = weight.dim() - 2
    s, p, d, o = (tuple(v) * count if len(v) == 1 else tuple(v) for v in (stride, padding, dilation, more))
    kernel = weight.shape[2:]
    if transposed:
        places = [
            (n - 1) * s[k] - 2 * p[k] + d[k] * (kernel[k] - 1) + o[k] + 1
            for k, n in enumerate(source.shape[-count:])
        ]
    else:
        places = [
            (n + 2 * p[k] - d[k] * (kernel[k] - 1) - 1) // s[k] + 1
            for k, n in enumerate(source.shape[-count:])
        ]
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    batched = source.dim() == count + 2
    shape = [*source.shape[:1], channels, *places] if batched else [channels, *places]
    layout = torch.contiguous_format
    if batched and (channels_last(source) or channels_last(weight)):
        layout = LAST[weight.dim()]
    return torch.empty(shape, dtype=source.dtype, device="meta", memory_format=layout)


def scratch(
    kernels: Kernels, source: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, groups: int
) -> int:
    """Bytes that the kernel takes beside its input and output."""
    if math.prod(weight.shape[2:]) == 1 or weight.dim() == 3:
        return 0
    size = source.element_size()
    if groups > 1:
        return 0  # depthwise kernels of torch's own, and grouped ones of cuDNN's, read NCHW
    at = 1 if source.dim() == weight.dim() else 0
    taken = [_padded(tensor, at) for tensor in (source, out)]
    if channels_last(source):
        moved = sum(
            new for new, tensor in zip(taken, (source, out), strict=True) if new != tensor.numel() * size
        )
        return int(kernels.nchw * (moved + weight.numel() * size))
    return int(kernels.nchw * (sum(taken) + weight.numel() * size))


def flops(weight: torch.Tensor, source: torch.Tensor, out: torch.Tensor, transposed: bool) -> int:
    """Two for each multiplication and addition."""
    places = source if transposed else out
    per = weight.numel() // weight.shape[0]
    return 2 * places.numel() * per


def _padded(tensor: torch.Tensor, at: int) -> int:
    channels, size = tensor.shape[at], tensor.element_size()
    step = ALIGNED // size
    return tensor.numel() // channels * (-(-channels // step) * step) * size if channels else 0
