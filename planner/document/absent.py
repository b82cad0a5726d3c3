"""What people ask of a plan that the language cannot say yet, and the nearest thing that it can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from planner.document.mends import POLICIES

_ONE_DEVICE = (
    "one plan is for one device: a component or a share of it on another card is not there yet; "
    "a second card takes a second plan (device: cuda:1)"
)
_ON_CPU = (
    "computing on the CPU is not there yet: every component runs on the plan's device; "
    "policy: offload keeps it in host memory until it runs"
)
_ON_DISK = (
    "weights left on disk are not there yet: all are in host memory while the plan holds; "
    "smaller ones fit (quantization, or a .gguf source), and budget.ram checks it before any is read"
)
_UNIFIED = (
    "unified memory is not told apart yet: budget.vram and budget.ram are counted each by itself, so give "
    "each its share"
)
_DTYPE = "one dtype for the whole pipeline: components of another are not there yet, but for quantization"
_CAST = (
    "that is how weights are stored, not what computes: quantization: "
    "[{component: unet, backend: layerwise_cast, storage_dtype: float8_e4m3fn}]"
)
_QUANTIZE = "weights of few bits are a rule: quantization: [{{component: unet, backend: {}}}]"
_CARDS = re.compile(r"(cuda|gpu|xpu|npu|rocm|hip)?:?\d+|(cuda|gpu|xpu)", re.IGNORECASE)
_KEYS = {
    key: hint
    for keys, hint in (
        ("devices device_map device_ids gpus gpu_ids split balanced tensor_parallel max_memory", _ONE_DEVICE),
        ("disk disk_offload offload_to_disk offload_folder offload_dir swap nvme mmap", _ON_DISK),
        ("unified unified_memory shared_memory memory", _UNIFIED),
        ("cpu cpu_only on_cpu run_on_cpu", _ON_CPU),
    )
    for key in keys.split()
}
"""Keys that people write for it, wherever they stand."""
_WIDTHS = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}


def absent(path: Sequence[str | int], key: str, value: Any) -> str:
    """The hint for ``key`` under ``path``, or for the value at ``path`` where ``key`` is ""; "" where it is
    none of those."""
    names = [part for part in path if isinstance(part, str)] + ([key] if key else [])
    last = names[-1] if names else ""
    if last == "dtype":
        return _dtype(names, value)
    if last in ("device", "offload_device", "execution_device", "offload_to", "place", "on"):
        return _place(value) if len(names) > 1 or not isinstance(value, str) else _several(value)
    if key in _KEYS:
        return _KEYS[key]
    if names[:1] == ["components"] and len(names) <= 3 and last in (*names[1:2], "policy"):
        return "" if isinstance(value, list) and {*map(str, value)} <= POLICIES else _place(value)
    if not key and names[:1] == ["budget"] and isinstance(value, (dict, list)):
        return _ONE_DEVICE
    return ""


def _place(value: Any) -> str:
    """Where a value wants a component to be."""
    if isinstance(value, (list, dict)):
        return _ONE_DEVICE
    text = str(value).lower()
    if text in ("gpu", "cuda", "xpu", "vram"):
        return "policy: resident keeps it on the plan's device"
    if text in ("disk", "nvme", "ssd", "mmap"):
        return _ON_DISK
    if text in ("cpu", "host", "ram"):
        return _ON_CPU
    if text in ("unified", "shared"):
        return _UNIFIED
    return _ONE_DEVICE if _CARDS.fullmatch(text) else ""


def _several(value: str) -> str:
    return _ONE_DEVICE if len(re.findall(r"\d+", value)) > 1 or value in ("balanced", "all", "multi") else ""


def _dtype(names: Sequence[str], value: Any) -> str:
    if isinstance(value, (dict, list)) or names[:1] == ["components"]:
        return _DTYPE
    text = str(value).lower().removeprefix("torch.")
    if text.startswith(("float8", "fp8", "f8")):
        return _CAST
    if re.match(r"(u?int|nf|fp|q)?[2348](bit|-bit)?$|(u?int|nf|fp)\d", text) and text not in _WIDTHS:
        return _QUANTIZE.format(
            "torchao, type: int8_weight_only" if "8" in text else "bitsandbytes, type: nf4"
        )
    return f'did you mean "{_WIDTHS[text]}"?' if text in _WIDTHS else ""
