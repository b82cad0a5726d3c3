"""Registering the virtual accelerator: once a process, and only when asked.

torch has one place for a backend from outside (PrivateUse1) and an experimental way to fill it from
Python; either may be gone or taken, which is a finding and not a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch.library import Library, fallthrough_kernel

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_virtual import BACKEND_MISSING, BACKEND_TAKEN
from planner.virtual import autograd, data, flex, generator, ops
from planner.virtual.module import SimModule
from planner.virtual.tensor import BACKEND, SimTensor

_lock = Lock()
_libraries: list[Library] = []  # a registration lives as long as its Library


def install() -> None:
    """Make ``torch.device("sim:0")`` work in this process. A second call does nothing.

    Raises PlanError: P750 where this torch has no Python backends, P751 where another backend has
    the place already. It cannot be undone: torch offers no way.
    """
    with _lock:
        if _libraries:
            return
        setup = getattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend", None)
        if setup is None or not hasattr(Library, "fallback"):
            raise PlanError(
                [
                    finding(
                        BACKEND_MISSING,
                        f"torch {torch.__version__} cannot take a backend written in Python",
                        hint="simulation is known to work with torch 2.10 to 2.13",
                    )
                ]
            )
        name = torch._C._get_privateuse1_backend_name()
        if name != "privateuseone":
            raise PlanError(
                [finding(BACKEND_TAKEN, f'torch\'s place for an outside backend is taken by "{name}"')]
            )
        try:
            setup(BACKEND, SimModule(), device_guard=autograd.Guard())
        except (RuntimeError, TypeError, AttributeError) as error:
            raise PlanError(
                [finding(BACKEND_MISSING, f"torch {torch.__version__} refused the backend: {error}")]
            ) from error
        SimTensor.kernel = staticmethod(ops.run)
        _register()
        generator.install()
        autograd.install_engine()
        data.install()
        flex.install()


def installed() -> bool:
    """Whether ``sim`` is registered in this process."""
    return bool(_libraries)


# torch reaches these with Python dispatch switched off (`torch.tensor`, list indices), where the
# fallback, which goes through it, cannot be used
_DIRECT = (
    "empty.memory_format",
    "empty_strided",
    "_copy_from",
    "_copy_from_and_resize",
    "_local_scalar_dense",
)

# what CUDA's autocast takes in the lower precision (torch.amp's op reference), as far as models use it
_LOW_PRECISION = (
    *("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"),
)


def _register() -> None:
    library: Any = Library  # untyped
    everything = library("_", "IMPL")
    everything.fallback(lambda func, *args, **kwargs: ops.run(func, args, kwargs), "PrivateUse1")
    everything.fallback(fallthrough_kernel, "AutocastPrivateUse1")
    aten = library("aten", "IMPL")
    for name in (*_DIRECT, *ops.OWN, *ops.WHOLE):
        op = _op(name)
        if op is not None:
            aten.impl(name, _kernel(op), "PrivateUse1")
    for name in ops.WHOLE:
        op = _op(name)
        if op is not None:
            aten.impl(name, autograd.composed_for_gradients(op), "AutogradPrivateUse1", allow_override=True)
    for name in _LOW_PRECISION:
        op = _op(name)
        if op is not None:
            aten.impl(name, _autocast(op), "AutocastPrivateUse1")
    _libraries.extend((everything, aten))


def _op(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)


def _kernel(op: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: ops.run(op, args, kwargs)


def _autocast(op: Any) -> Callable[..., Any]:
    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.device.type == BACKEND:
            return value.to(torch.get_autocast_dtype(BACKEND))
        return type(value)(map(cast, value)) if isinstance(value, (list, tuple)) else value

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return op(*map(cast, args), **{key: cast(value) for key, value in kwargs.items()})

    return kernel


_keys: Any = torch._C.DispatchKey  # the stub lacks the outside backend's
_AUTOCAST = torch._C.DispatchKeySet(_keys.AutocastPrivateUse1)
