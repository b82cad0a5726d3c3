"""Modules on a pretended GPU: copies of a pipeline's components whose weights have no data."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from planner.tracing.mode import Tracer
from planner.tracing.tensor import CPU, KEEP, META, Traced

TABLES = ("_parameters", "_buffers", "_modules")


def copied(module: Any, tracer: Tracer, dtype: Any = None) -> Any:
    """``module`` with weights on the GPU and without data; it is left as it is. Meta modules keep what values
    their buffers have no more. ``dtype``: of its parameters and saved buffers, as ``from_pretrained`` leaves
    them; None: as they are."""
    memo: dict[int, Any] = {}
    high = kept_high(module, dtype)
    alive: list[Any] = []
    for path, part in module.named_modules():
        for table, key, tensor in _tensors(part):
            if id(tensor) in memo:
                continue
            cast = dtype if tensor.is_floating_point() else None
            if table == "_buffers" and key in part._non_persistent_buffers_set:
                cast = None
            if cast is not None and any(name in f"{path}.{key}".split(".") for name in high):
                cast = torch.float32
            memo[id(tensor)] = _hollow(tensor, tracer, cast, weight=table == "_parameters")
            alive.append(tensor)
        for value in part.__dict__.values():
            for tensor in _plain(value):
                if id(tensor) in memo:
                    continue
                if tensor.device.type == "meta":
                    memo[id(tensor)] = Traced(torch.empty_like(tensor, device=META), CPU)
                elif (
                    not tensor.is_leaf
                ):  # made of parameters (weight_norm's): it cannot be copied, nor need be
                    memo[id(tensor)] = _hollow(tensor, tracer, dtype, weight=False)
                alive.append(tensor)
    made = copy.deepcopy(module, memo)
    made.eval()
    return made


def kept_high(module: Any, dtype: Any) -> tuple[str, ...]:
    """Names of parts that stay in float32 when the rest is loaded in ``dtype``."""
    names = [*(getattr(module, "_keep_in_fp32_modules", None) or ())]
    if type(module).__module__.startswith("transformers"):
        strict = getattr(module, "_keep_in_fp32_modules_strict", None) or ()
        names = [*strict, *(names if dtype == torch.float16 else ())]
    return tuple(names)


def _hollow(tensor: Any, tracer: Tracer, dtype: Any, *, weight: bool) -> Traced:
    meta = torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=META)
    if not weight and tensor.is_contiguous() is False:
        meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=meta.dtype, device=META)
    value = None
    if not weight and tensor.device.type == "cpu" and tensor.numel() <= KEEP:
        value = tensor.detach().to(meta.dtype).clone()
    tracer.ledger.know(meta)
    made = Traced(meta, torch.device("cuda:0"), value)
    if weight:
        made._is_param = True
    return made


def _tensors(part: Any) -> Iterator[tuple[str, str, Any]]:
    for table in TABLES[:2]:
        for key, tensor in getattr(part, table).items():
            if tensor is not None:
                yield table, key, tensor


def _plain(value: Any) -> Iterator[torch.Tensor]:
    """Tensors that are neither parameters nor buffers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif type(value) in (list, tuple):
        yield from (v for v in value if isinstance(v, torch.Tensor))
    elif type(value) is dict:
        yield from (v for v in value.values() if isinstance(v, torch.Tensor))


def converted(module: Any, function: Any, tracer: Tracer, recurse: bool) -> Any:
    """``module.to(dtype)``, by other tensors in the module's tables: a tensor without data takes none. What
    goes to the CPU stays where it is."""
    for part in module.modules() if recurse else (module,):
        for table, key, tensor in list(_tensors(part)):
            new = function(tensor)
            if new is tensor or new.dtype == tensor.dtype:
                continue
            made = _hollow(new if not isinstance(new, Traced) else new.meta, tracer, None, weight=False)
            if getattr(tensor, "_is_param", False):
                made._is_param = True
            getattr(part, table)[key] = made
    return module


@contextmanager
def uninitialised() -> Iterator[None]:
    """Modules are built on the meta device, without drawing their weights."""
    init = nn.init
    names = [n for n in dir(init) if n.endswith("_") and not n.startswith("_") and callable(getattr(init, n))]
    before = {name: getattr(init, name) for name in names}
    try:
        for name in names:
            setattr(init, name, lambda tensor, *_, **__: tensor)
        with torch.device("meta"):
            yield
    finally:
        for name, function in before.items():
            setattr(init, name, function)
