"""``scaled_dot_product_attention`` as a card runs it: which kernel, the output's layout, its scratch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from planner.cards.kernels import Kernels
from planner.tracing.ledger import Ledger
from planner.tracing.norms import RMS_NORM, rms_norm
from planner.tracing.operations import name
from planner.tracing.tensor import Traced

HALF = (torch.float16, torch.bfloat16)
NAME = torch.nn.functional.scaled_dot_product_attention


MASK = 0.6
"""Of a mask's bytes, read by each head, those whose reading takes time of its own beside the products:
HunyuanVideo's transformer (32,896 positions, 24 heads) took so much longer on an H200 than without."""


class OneKernel(TorchFunctionMode):
    """Stands in for functions that a GPU runs as one kernel, and torch for the CPU as several operations:
    attention and ``rms_norm``, from wherever they were imported. It must be the innermost mode."""

    def __init__(self, kernels: Kernels, ledger: Ledger) -> None:
        super().__init__()
        self._kernels = kernels
        self._ledger = ledger

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """They are ours where their first argument is on the GPU."""
        named = kwargs or {}
        if func is NAME and _on_gpu(args[0] if args else named["query"]):
            return self._run(*args, **named)
        if func is RMS_NORM and _on_gpu(args[0] if args else named["input"]):
            return rms_norm(self._ledger, *args, **named)
        return func(*args, **named)

    def _run(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        q, k, v, mask = query, key, value, attn_mask
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
            mask = mask.to(dtype) if mask is not None and mask.is_floating_point() else mask
        kind = chosen(self._kernels, q, k, v, mask, enable_gqa)
        if kind == "math":
            # torch's own, in the open: half precision is computed in float32
            math = torch.ops.aten._scaled_dot_product_attention_math
            return math(q, k, v, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]
        if mask is not None:
            mask = mask.to(q.dtype) if mask.dtype == torch.bool else mask
            width, step = mask.shape[-1], 16 // q.element_size()
            if kind == "efficient" and width % step:
                mask = q.new_empty((*mask.shape[:-1], -(-width // step) * step))
        b, h, s, d = q.shape
        out = _output(kind, q, k, v)
        self._ledger.borrow(_scratch(self._kernels, kind, q, k, v))
        flops = 2 * b * h * s * k.shape[-2] * (d + v.shape[-1])
        size = sum(t.numel() * t.element_size() for t in (q, k, v, out))
        shape = (b, h, s, k.shape[-2], d)
        self._ledger.count("attention", name(q.dtype), flops, size, shape)
        if mask is not None:
            read = b * h * s * k.shape[-2] * q.element_size()
            self._ledger.count("memory", name(q.dtype), 0, int(MASK * read))
        return out


def _on_gpu(tensor: Any) -> bool:
    return isinstance(tensor, Traced) and tensor.device.type == "cuda"


def chosen(kernels: Kernels, q: Any, k: Any, v: Any, mask: Any, gqa: bool) -> str:
    """The first that takes these inputs: cuDNN where the card prefers it, flash, efficient, math.

    None but math takes a mask, or anything else, whose last dimension is not dense (``sdp_utils.cpp``,
    ``check_last_dim_stride_equals_1_dense``): T5's permuted bias is one.
    """
    strided = (t for t in (q, k, v, mask) if t is not None)
    if q.dim() != 4 or any(t.stride(-1) != 1 for t in strided):
        return "math"
    half, d = q.dtype in HALF, q.shape[-1]
    same = d == v.shape[-1]
    aligned = 8 if half else 4
    able = {
        "cudnn": half and same and d % 8 == 0 and d <= 128 and q.shape[-2] > 1 and k.shape[-2] > 1,
        "flash": half and same and mask is None and d <= 256,
        "efficient": not gqa
        and q.dtype in (*HALF, torch.float32)
        and d % aligned == 0
        and v.shape[-1] % aligned == 0,
    }
    if kernels.attention != "cudnn":
        able["cudnn"] = False
    if kernels.attention == "efficient":
        able["flash"] = False  # before Ampere
    return next((kind for kind, takes in able.items() if takes), "math")


def _output(kind: str, q: Any, k: Any, v: Any) -> Any:
    """cuDNN lays it as the query; the others by position, heads within."""
    b, h, s, d = q.shape
    if kind == "cudnn":
        return torch.empty_like(q)
    pad = -d % 8 if kind == "flash" else 0
    if pad:
        q, k, v = (torch.nn.functional.pad(t, (0, pad)) for t in (q, k, v))
    out = q.new_empty((b, s, h, v.shape[-1])).transpose(1, 2)
    return out[..., :d] if pad else out


def _scratch(kernels: Kernels, kind: str, q: Any, k: Any, v: Any) -> int:
    b, h, s, d = q.shape
    if kind == "efficient" and v.shape[-1] > 128 and q.dtype in HALF:
        return int(b * s * h * v.shape[-1] * 4)  # it accumulates in float32, beside the output
    if kind == "flash":
        return int(b * h * s * 4) + split(kernels.sms, b, h, s, k.shape[-2], d)
    return 0


def split(sms: int, batch: int, heads: int, queries: int, keys: int, size: int) -> int:
    """Bytes of flash attention's parts in float32, where it splits the keys to fill ``sms`` (its
    ``num_splits_heuristic``, for two blocks on each)."""
    wide = 256 if size <= 64 else 128 if size <= 128 else 64
    parts = -(-keys // wide)
    blocks = batch * heads * -(-queries // 64)
    if blocks >= 0.8 * sms * 2:
        return 0
    waves = {
        n: blocks * n / (sms * 2)
        for n in range(1, min(128, sms * 2, parts) + 1)
        if n == 1 or -(-parts // n) != -(-parts // (n - 1))
    }
    full = {n: w / math.ceil(w) for n, w in waves.items()}
    best = max(full.values(), default=0.0)
    n = next((n for n, share in full.items() if share >= 0.85 * best), 1)
    return 0 if n == 1 else n * batch * heads * queries * (size + -size % 32 + 1) * 4
