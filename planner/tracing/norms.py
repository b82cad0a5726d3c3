"""``rms_norm`` as CUDA runs it: one kernel, where torch for the CPU has a few operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from planner.tracing.ledger import Ledger
from planner.tracing.operations import name, nbytes
from planner.tracing.tensor import Traced

RMS_NORM = torch.nn.functional.rms_norm


def rms_norm(
    ledger: Ledger, input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """The output; the statistics are borrowed, a float32 a row. As ``rms_norm_symint`` decides
    (aten/src/ATen/native/layer_norm.cpp, torch 2.11): in the open where dtypes differ, for complex numbers
    and where memory is channels-last."""
    mixed = weight is not None and weight.dtype != input.dtype
    last = input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last)
    if mixed or input.is_complex() or (last and not input.is_contiguous()):
        return RMS_NORM(input, normalized_shape, weight, eps)
    dense = input.contiguous()
    out = torch.empty_like(dense)
    rows = input.numel() // max(1, math.prod(normalized_shape))
    ledger.borrow(4 * rows)
    size = sum(nbytes(t.meta) for t in (dense, out, weight) if isinstance(t, Traced))
    ledger.count("memory", name(input.dtype), 4 * input.numel(), size)
    return out
