"""Quantized layers in a trace: the weight that they make for as long as they run.

Weights of a hollow pipeline are dense. What a form of them has on the device is told by
``planner.quantization.sizes``; what it allocates while a layer runs is told here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import torch

from planner.forms.formats import taken_of
from planner.plan.model import Plan
from planner.quantization.backends import BACKENDS
from planner.tracing import operations
from planner.tracing.mode import Tracer
from planner.tracing.tensor import CUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """``item``: bytes of a stored element; ``bias``: it is stored so too; ``rows``: of a layer's input, up to
    which a kernel reads the stored weight and none is made; ``scaled``: the product is scaled afterwards,
    into a second one. ``said``: the rule and how right it is."""

    item: float
    bias: bool = False
    rows: int = 0
    scaled: bool = False
    said: str


_CAST = Form(item=1, bias=True, said="a layer's weight is cast while it runs, as planner.forms.cast does it")
_FOUR_BITS = Form(
    item=0.5,
    rows=4,
    said="a layer's weight is unpacked while it runs; where bitsandbytes takes a kernel for fewer rows, that "
    "is too much by one layer's weight",
)
_INT8 = Form(item=1, scaled=True, said="a layer's weight is cast while it runs, as torchao 0.18 does it")

FORMS: Mapping[tuple[str, str], Form] = MappingProxyType(
    {
        **{("layerwise_cast", kind): _CAST for kind in BACKENDS["layerwise_cast"].types},
        ("bitsandbytes", "nf4"): _FOUR_BITS,
        ("bitsandbytes", "fp4"): _FOUR_BITS,
        ("torchao", "int8_weight_only"): _INT8,
    }
)
"""By backend and format. bitsandbytes 0.50, backends/cuda/ops.py: ``gemm_4bit`` unpacks the weight, but for
few rows (``_gemm_4bit_use_custom_cuda``; up to four whatever the card). torchao 0.18, int8_tensor.py: the
weight in the input's dtype, a product, and the product times the scales. Others are traced as dense weights.
"""


def forms_of(plan: Plan, pipe: Any) -> tuple[Mapping[str, Mapping[str, Form]], list[str]]:
    """By component and path of a layer, what the plan's rules make of it; and in words what is assumed."""
    found: dict[str, dict[str, Form]] = {}
    notes = []
    for name in dict.fromkeys(rule.component for rule in plan.quantization):
        module = pipe.components.get(name)
        if not isinstance(module, torch.nn.Module):
            continue
        for taken in taken_of(plan, name, module):
            backend = taken.rule.backend
            form = FORMS.get((backend, BACKENDS[backend].type_of(taken.rule.options)))
            if form is None:
                notes.append(f"{name}: quantized by {backend}, traced as dense weights")
                continue
            notes.append(f"{name}: quantized by {backend}: {form.said}")
            found.setdefault(name, {}).update(dict.fromkeys(taken.names, form))
    return found, list(dict.fromkeys(notes))


def run(
    form: Form,
    tracer: Tracer,
    call: Callable[..., Any],
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """``call(module, *args, **kwargs)`` as a layer whose weights are stored in ``form``, while ``tracer``
    traces."""
    if _rows(args) <= form.rows:
        return call(module, *args, **kwargs)
    table, ledger = module._parameters, tracer.ledger
    stored = {key: table[key] for key in ("weight", "bias")[: 1 + form.bias] if table.get(key) is not None}
    try:
        for key, weight in stored.items():
            table[key] = torch.empty(weight.shape, dtype=weight.dtype, device=CUDA)  # the tracer's, counted
            size = int(weight.numel() * (form.item + weight.element_size()))
            ledger.count("memory", operations.name(weight.dtype), weight.numel(), size)
        out = call(module, *args, **kwargs)
    finally:
        table.update(stored)
    if form.scaled and isinstance(out, torch.Tensor):
        size = out.numel() * out.element_size()
        ledger.borrow(size)
        ledger.count("memory", operations.name(out.dtype), out.numel(), 2 * size)
    return out


def _rows(args: tuple[Any, ...]) -> int:
    shape = args[0].shape if args and isinstance(args[0], torch.Tensor) else ()
    return prod(shape[:-1])
