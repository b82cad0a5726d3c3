"""The bytes of each format, against what the libraries really make on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from planner.quantization.backends import BACKENDS
from planner.quantization.formats import made_of
from planner.target.parts import parts_of

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


def torchao(config: str, **options: Any) -> Callable[[nn.Module], None]:
    def make(model: nn.Module) -> None:
        import torchao.quantization as library

        library.quantize_(model, getattr(library, config)(**options))

    return make


def quanto(name: str) -> Callable[[nn.Module], None]:
    def make(model: nn.Module) -> None:
        library = pytest.importorskip("optimum.quanto")
        library.quantize(model, weights=getattr(library, name))
        library.freeze(model)

    return make


def bitsandbytes(name: str, **options: Any) -> Callable[[nn.Module], None]:
    def make(model: nn.Module) -> None:
        library = pytest.importorskip("bitsandbytes")
        plain = model[0]
        made = getattr(library.nn, name)(
            plain.in_features, plain.out_features, plain.bias is not None, **options
        )
        made.load_state_dict(plain.state_dict())
        model[0] = made.to("cpu")
        if plain.bias is not None:
            made.bias = plain.bias  # loaded in its own dtype, as both libraries load it

    return make


def cast(dtype: torch.dtype) -> Callable[[nn.Module], None]:
    def make(model: nn.Module) -> None:
        from diffusers.hooks import apply_layerwise_casting

        apply_layerwise_casting(model, dtype, torch.bfloat16)

    return make


MADE: dict[tuple[str, str, bool], Callable[[nn.Module], None]] = {
    ("torchao", "int8_weight_only", False): torchao("Int8WeightOnlyConfig"),
    ("torchao", "int8_dynamic", False): torchao("Int8DynamicActivationInt8WeightConfig"),
    ("torchao", "float8_weight_only", False): torchao("Float8WeightOnlyConfig"),
    ("quanto", "int8", False): quanto("qint8"),
    ("quanto", "float8", False): quanto("qfloat8"),
    ("quanto", "int4", False): quanto("qint4"),
    ("quanto", "int2", False): quanto("qint2"),
    ("bitsandbytes", "nf4", False): bitsandbytes("Linear4bit", compress_statistics=False, quant_type="nf4"),
    ("bitsandbytes", "nf4", True): bitsandbytes("Linear4bit", compress_statistics=True, quant_type="nf4"),
    ("bitsandbytes", "fp4", False): bitsandbytes("Linear4bit", compress_statistics=False, quant_type="fp4"),
    ("bitsandbytes", "fp4", True): bitsandbytes("Linear4bit", compress_statistics=True, quant_type="fp4"),
    ("bitsandbytes", "int8", False): bitsandbytes("Linear8bitLt", has_fp16_weights=False),
    ("layerwise_cast", "float8_e4m3fn", False): cast(torch.float8_e4m3fn),
    ("layerwise_cast", "float8_e5m2", False): cast(torch.float8_e5m2),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("backend", "kind", "double"), list(MADE))
def test_a_linear_weighs_what_the_library_makes(
    backend: str, kind: str, double: bool, dtype: torch.dtype, bias: bool
) -> None:
    options = {BACKENDS[backend].type_key: kind, **({"double_quant": True} if double else {})}
    for shape in SHAPES:
        model = nn.Sequential(nn.Linear(*shape, bias=bias, dtype=dtype))
        (part,) = parts_of(model)
        said = made_of(backend, options, part)
        assert said is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            MADE[backend, kind, double](model)
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
