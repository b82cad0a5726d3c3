"""Models that are really quantized, each by its library's own means, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

Make = Callable[[nn.Module], None]
"""Quantizes every Linear of a model, in place."""


def torchao(config: str, **options: Any) -> Make:
    def make(model: nn.Module) -> None:
        library = pytest.importorskip("torchao.quantization")
        library.quantize_(model, getattr(library, config)(**options))

    return make


def quanto(name: str) -> Make:
    def make(model: nn.Module) -> None:
        library = pytest.importorskip("optimum.quanto")
        library.quantize(model, weights=getattr(library, name))
        library.freeze(model)
        for part in model.modules():
            weight: Any = part._parameters.get("weight")
            if type(weight).__name__ == "TinyGemmWeightQBitsTensor":  # packed for the CPU's kernels
                part._parameters["weight"] = nn.Parameter(weight.weight_qbits_tensor(), False)

    return make


def bitsandbytes(name: str, **options: Any) -> Make:
    def make(model: nn.Module) -> None:
        library = pytest.importorskip("bitsandbytes")
        for parent in list(model.modules()):
            for key, plain in parent.named_children():
                if type(plain) is nn.Linear:
                    bias = plain.bias is not None
                    made = getattr(library.nn, name)(plain.in_features, plain.out_features, bias, **options)
                    made.load_state_dict(plain.state_dict())
                    setattr(parent, key, made.to("cpu"))
                    made.bias = plain.bias  # loaded in its own dtype, as both libraries load it

    return make


def cast(dtype: torch.dtype) -> Make:
    def make(model: nn.Module) -> None:
        from diffusers.hooks import apply_layerwise_casting

        apply_layerwise_casting(model, dtype, torch.bfloat16)

    return make


MADE: dict[tuple[str, str], Make] = {
    ("torchao", "int8_weight_only"): torchao("Int8WeightOnlyConfig"),
    ("torchao", "int8_dynamic"): torchao("Int8DynamicActivationInt8WeightConfig"),
    ("torchao", "float8_weight_only"): torchao("Float8WeightOnlyConfig"),
    ("quanto", "int8"): quanto("qint8"),
    ("quanto", "float8"): quanto("qfloat8"),
    ("quanto", "int4"): quanto("qint4"),
    ("quanto", "int2"): quanto("qint2"),
    ("bitsandbytes", "nf4"): bitsandbytes("Linear4bit", compress_statistics=False, quant_type="nf4"),
    ("bitsandbytes", "fp4"): bitsandbytes("Linear4bit", compress_statistics=False, quant_type="fp4"),
    ("bitsandbytes", "int8"): bitsandbytes("Linear8bitLt", has_fp16_weights=False),
    ("layerwise_cast", "float8_e4m3fn"): cast(torch.float8_e4m3fn),
    ("layerwise_cast", "float8_e5m2"): cast(torch.float8_e5m2),
}

DOUBLE: dict[str, Make] = {
    kind: bitsandbytes("Linear4bit", compress_statistics=True, quant_type=kind) for kind in ("nf4", "fp4")
}
"""bitsandbytes' with double quantization."""
