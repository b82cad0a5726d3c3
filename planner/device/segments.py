"""torch's CUDA allocator, told to take what it needs and no more.

It asks the driver for segments of fixed sizes and keeps what is cut from them. Its expandable segments grow
by pages where there were allocations, and their pages go back without waiting for the device. For Flux at
1024 x 1024 on an H100 the transformer's activations reserve 0.63 GB, otherwise 1.15, the decoder's 3.02 and
4.53, and the picture is the same. The setting is the process's: made while a budget binds, then put back.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

_OPTION = "expandable_segments"
_holders: set[int] = set()
_before = ""
_left = ""
"""What was said before the first holder, and what stands since the last one left."""


def expand(holder: object) -> None:
    """From now on, for ``holder``, where this torch and this system can and nobody has said otherwise."""
    global _before
    if not _holders:
        now = _settings()
        _before = _before if now == _left else now
        if _OPTION in _before or sys.platform == "win32" or torch.cuda.get_allocator_backend() != "native":
            return
        _set(_with("True"))
    _holders.add(id(holder))


def restore(holder: object) -> None:
    """As it was, once the last holder says so. Segments that are there already stay what they are."""
    global _left
    if id(holder) in _holders:
        _holders.remove(id(holder))
        if not _holders:
            _left = _with("False")
            _set(_left)


def _with(value: str) -> str:
    return ",".join(filter(None, (_before, f"{_OPTION}:{value}")))


def _settings() -> str:
    """As they were given last: torch resets each option that a string leaves out."""
    ask = getattr(torch._C, "_accelerator_getAllocatorSettings", None)  # torch 2.10
    said = str(ask()) if ask is not None else ""
    return said or os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")


def _set(settings: str) -> None:
    core: Any = torch._C
    give = getattr(core, "_accelerator_setAllocatorSettings", None)
    (give or core._cuda_cudaCachingAllocator_set_allocator_settings)(settings)
