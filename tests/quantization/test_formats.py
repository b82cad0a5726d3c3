"""The bytes of each format, against what the libraries really make on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from unpacking import unpack

from planner.quantization.backends import BACKENDS
from planner.quantization.formats import made_of
from planner.target.parts import parts_of
from quantization.making import DOUBLE, MADE, torchao

SHAPES = [(256, 384), (64, 32), (128, 48), (96, 40), (160, 64), (200, 24), (2048, 16), (33, 7)]
"""Inputs and outputs: of several groups, of one, of a part of one, odd."""


def inner(tensor: Any) -> Iterator[int]:
    """Bytes of each plain tensor that ``tensor`` is made of."""
    if hasattr(tensor, "quant_state") and tensor.quant_state is not None:
        state = tensor.quant_state
        held = [tensor.data, state.absmax, state.code, state.offset]
        held += [state.state2.absmax, state.state2.code] if state.nested else []
        yield from (t.nbytes for t in held if t is not None)
    elif hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            if getattr(tensor, name) is not None:
                yield from inner(getattr(tensor, name))
    else:
        yield tensor.numel() * tensor.element_size()
        if getattr(tensor, "SCB", None) is not None:
            yield tensor.SCB.nbytes


def in_module(module: nn.Module) -> list[int]:
    return sorted(
        size for _, t in (*module.named_parameters(), *module.named_buffers()) for size in inner(t) if size
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("backend", "kind"), [*MADE, *(("double", kind) for kind in DOUBLE)])
def test_a_linear_weighs_what_the_library_makes(
    backend: str, kind: str, dtype: torch.dtype, bias: bool
) -> None:
    make = DOUBLE[kind] if backend == "double" else MADE[backend, kind]
    double, backend = backend == "double", backend.replace("double", "bitsandbytes")
    options = {BACKENDS[backend].type_key: kind, **({"double_quant": True} if double else {})}
    for shape in SHAPES:
        model = nn.Sequential(nn.Linear(*shape, bias=bias, dtype=dtype))
        (part,) = parts_of(model)
        said = made_of(backend, options, part)
        assert said is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(model)
        assert sorted(said.nbytes(part)) == in_module(model), (shape, part)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 8, 3), nn.Conv3d(2, 4, 3, bias=False), nn.ConvTranspose1d(4, 8, 3), nn.Embedding(16, 8)],
)
def test_what_is_cast_is_a_byte_an_element(layer: nn.Module) -> None:
    model = nn.Sequential(layer).to(torch.bfloat16)
    (part,) = parts_of(model)
    said = made_of("layerwise_cast", {"storage_dtype": "float8_e4m3fn"}, part)
    assert said is not None
    layer.to(torch.float8_e4m3fn)
    assert sorted(said.nbytes(part)) == in_module(model)


def test_one_scale_for_a_tensor() -> None:
    """The weights of float8_dynamic, which asserts a card for the rest of it."""
    from torchao.quantization import PerTensor

    model = nn.Sequential(nn.Linear(64, 32, dtype=torch.bfloat16))
    (part,) = parts_of(model)
    said = made_of("torchao", {"type": "float8_dynamic"}, part)
    assert said is not None
    torchao("Float8WeightOnlyConfig", granularity=PerTensor())(model)
    assert sorted(said.nbytes(part)) == in_module(model)


def test_a_weight_that_a_format_does_not_fit_stays() -> None:
    (part,) = parts_of(nn.Sequential(nn.Linear(72, 24, dtype=torch.bfloat16)))
    assert made_of("torchao", {"type": "float8_dynamic"}, part) is None
    assert made_of("torchao", {"type": "int4_weight_only"}, part) is None
    said = made_of("torchao", {"type": "int4_weight_only", "group_size": 36}, part)
    assert said is not None
    assert said.weight == (72 * 24 // 2, 24 * 2 * 2, 24 * 2 * 2)


def test_what_is_quantized_already_stays() -> None:
    (part,) = parts_of(nn.Sequential(nn.Linear(64, 32).to(torch.float8_e4m3fn)))
    assert made_of("torchao", {"type": "int8_weight_only"}, part) is None
    assert made_of("gguf", {}, part) is None


@pytest.mark.parametrize("bits", [4, 2])
def test_what_quanto_packs_is_unpacked_without_its_kernel(bits: int) -> None:
    packed = pytest.importorskip("optimum.quanto").tensor.packed
    values = torch.arange(6 * 8).reshape(6, 8).remainder(2**bits).to(torch.uint8)
    made = packed.PackedTensor.pack(values, bits)
    assert torch.equal(unpack(made._data, bits)[: len(values)], values)
