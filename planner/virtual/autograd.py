"""Gradients on ``sim``: torch's own engine and formulas, as on CUDA.

Two things stand in the way of a backend written in Python (torch 2.13). An operation that torch composes of
others, once it has a kernel of its own here, has no gradient: where one is wanted, it is composed as on
CUDA. And the engine asks the backend's guard for its device while an exception unwinds; a Python call with
an error pending fails, in a place that may not throw, and the process ends. So the guard takes the error
off, and ``run_backward`` raises it in the thread that called.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import Variable
from torch.nn.attention import SDPBackend

_module: Any = torch._C  # the stub lacks what follows
_DEVICE_TYPE = _module._autograd.DeviceType.PrivateUse1
_GuardBase: Any = getattr(getattr(_module, "_acc", None), "DeviceGuard", object)  # an older torch has none
_EngineBase: Any = _module._ImperativeEngine


def composed_for_gradients(op: Any) -> Callable[..., Any]:
    """The autograd kernel of a composite ``op``: composed where a gradient is wanted, whole elsewhere."""
    compose = _attention if op is torch.ops.aten.scaled_dot_product_attention.default else op.decompose

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and _wanted((*args, *kwargs.values())):
            return compose(*args, **kwargs)
        with _module._AutoDispatchBelowAutograd():
            return op(*args, **kwargs)

    return kernel


def install_engine() -> None:
    """Put ``Engine`` in torch's place: every backward goes through it, for any device."""
    Variable._execution_engine = Engine()  # torch only reads it


class Engine(_EngineBase):  # type: ignore[misc]
    """torch's, which raises in the caller what was raised on the device's thread."""

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's."""
        before = _errors.get()  # of a backward around this one, as checkpointing has it
        errors: list[BaseException] = []
        _errors.put(errors)
        try:
            return super().run_backward(*args, **kwargs)
        except SystemError:  # "returned NULL without setting an exception"
            if not errors:
                raise
        finally:
            _errors.put(before)
        raise errors[0]


class Carried:
    """One object of a thread, which torch hands to the threads that work for a backward of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Up to torch 2.11 what keeps an object takes the caller's reference for its own, which ends the
        # process once that is gone. Which of both this torch does, no version says that could be asked.
        probe = object()
        before = sys.getrefcount(probe)
        _module._stash_obj_in_tls(name, probe)
        self._takes = sys.getrefcount(probe) == before
        if self._takes:
            _hold(probe)
        self.put(None)

    def get(self) -> Any:
        """What was put last; None where nothing was."""
        return _module._get_obj_in_tls(self._name) if _module._is_key_in_tls(self._name) else None

    def put(self, value: Any) -> None:
        """``value`` in the place of what was there; None is nothing."""
        remove = getattr(_module, "_remove_obj_from_tls", None)  # since torch 2.13
        if value is None and remove is not None:
            remove(self._name)
            return
        if self._takes:
            _hold(value)
        _module._stash_obj_in_tls(self._name, value)


_hold = ctypes.pythonapi.Py_IncRef
_hold.argtypes, _hold.restype = (ctypes.py_object,), None
_errors = Carried("planner.virtual.autograd")

# The pending error is taken by the C API alone: any other call would fail for it. Its arguments are made
# before, for the same reason.
_error = (ctypes.py_object(), ctypes.py_object(), ctypes.py_object())
_KIND, _VALUE, _TRACE = map(ctypes.byref, _error)
_take = ctypes.pythonapi.PyErr_Fetch
_take.restype = None
_release = ctypes.pythonapi.Py_DecRef


class Guard(_GuardBase):  # type: ignore[misc]
    """What torch asks for the type of the device, also in destructors."""

    def type_(
        self,
        take: Any = _take,
        kind: Any = _KIND,
        value: Any = _VALUE,
        trace: Any = _TRACE,
        pending: Any = _error[0],
        answer: Any = _DEVICE_TYPE,
    ) -> Any:
        """``PrivateUse1``. Local names alone until the error is off: the look-up of others may drop it."""
        take(kind, value, trace)
        if pending:
            _keep()
        return answer


def _keep() -> None:
    """The error that was taken off, for the call of ``run_backward`` that this thread works for."""
    taken: list[Any] = [part.value if part else None for part in _error]
    kind, value, trace = taken
    for part in _error:
        if part:
            _release(part)
    errors = _errors.get()
    if errors is not None:
        # C code may leave an exception's class and arguments, to be put together later.
        arguments = value if isinstance(value, tuple) else () if value is None else (value,)
        error = value if isinstance(value, BaseException) else kind(*arguments)
        errors.append(error.with_traceback(trace))


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Any:
    """As torch composes it on the CPU: fused where the CPU would."""
    aten, args = torch.ops.aten, (query, key, value, attn_mask, dropout_p, is_causal)
    asked = attn_mask is not None and attn_mask.requires_grad
    if asked or aten._fused_sdp_choice(*args, **options) != SDPBackend.FLASH_ATTENTION.value:
        return aten.scaled_dot_product_attention.default.decompose(*args, **options)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    fused = aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=options.get("scale"))[0]


def _wanted(values: Iterable[Any]) -> bool:
    """Whether a tensor among them has a gradient to be computed."""
    return any(
        value.requires_grad
        if isinstance(value, torch.Tensor)
        else isinstance(value, (list, tuple)) and _wanted(value)
        for value in values
    )
