"""FlexAttention on ``sim``: torch's own composition of it, which it runs on the CPU too.

torch (2.13) takes no device that it does not know, and always compiles, which a tensor of this device stops.
"""

from __future__ import annotations

from functools import wraps
from threading import RLock
from typing import Any

import torch
from torch._higher_order_ops.flex_attention import flex_attention as operator
from torch._higher_order_ops.flex_attention import math_attention
from torch.nn.attention import flex_attention as module

from planner.virtual.tensor import SimTensor

_lock = RLock()
_UNCOMPILED = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"


def install() -> None:
    """For ``torch.nn.attention.flex_attention.flex_attention``; other devices' tensors go where they went."""
    flex: Any = module
    keys: Any = torch._C.DispatchKey
    hop: Any = operator
    hop.py_impl(keys.AutogradPrivateUse1)(math_attention)
    hop.py_impl(SimTensor)(math_attention)  # where there is no autograd
    hop.fallthrough(keys.AutocastPrivateUse1)
    whole, validate = flex.flex_attention, flex._validate_device

    def validate_device(query: Any, key: Any, value: Any) -> None:
        if not isinstance(query, SimTensor):
            validate(query, key, value)

    @wraps(whole)
    def flex_attention(query: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(query, SimTensor):
            return whole(query, *args, **kwargs)
        with _lock:  # torch's switch is the process's
            before = getattr(flex, _UNCOMPILED)
            setattr(flex, _UNCOMPILED, True)
            try:
                return whole(query, *args, **kwargs)
            finally:
                setattr(flex, _UNCOMPILED, before)

    flex._validate_device = validate_device
    flex.flex_attention = flex_attention
