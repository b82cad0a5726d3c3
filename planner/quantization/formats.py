"""What a module weighs in each format: the tensors that are in the place of its weight, in bytes.

Formulas of the versions named, each compared in a test with what that library really makes; another version
of a library may keep more or less beside the weights. A plan's sizes are those of a loaded pipeline in any
case once it is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from types import MappingProxyType
from typing import Any

from planner.quantization.backends import BACKENDS
from planner.target.parts import Part

Sizes = tuple[int, ...]
Options = Mapping[str, Any]

ITEM = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
GROUP = 128
"""Elements that share a scale in the formats of less than a byte, when a rule says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A module's tensors after a rule: ``weight`` in place of its weight, ``bias`` of its bias (None when it
    stays as it was), ``buffers`` beside them."""

    weight: Sizes
    bias: int | None = None
    buffers: Sizes = field(default=())

    def nbytes(self, part: Part) -> tuple[int, ...]:
        """Of all tensors of ``part``."""
        bias = part.tensors[1:] if self.bias is None or not part.tensors[1:] else (self.bias,)
        return (*self.weight, *bias, *self.buffers)


def made_of(backend: str, options: Options, part: Part) -> Made | None:
    """What ``part`` becomes in a backend's format. None where it stays as it is: its format does not fit the
    weight's shape, or it is not a plain weight any more. A gguf rule changes nothing: the file has."""
    kind = BACKENDS[backend].type_of(options)
    make = _FORMATS.get((backend, kind))
    if make is None or part.dtype not in ITEM:
        return None
    return make(part, options)


def _layerwise_cast(part: Part, options: Options) -> Made:
    """A byte an element, the bias too: ``module.to(dtype)``.

    diffusers 0.42.1, hooks/layerwise_casting.py: LayerwiseCastingHook.initialize_hook.
    """
    elements = prod(part.shape)
    return Made(weight=(elements,), bias=part.parameters - elements)


def _torchao_int8(part: Part, options: Options) -> Made:
    """A byte an element, and for each row a float32 scale and an int8 zero point.

    torchao 0.18.0, quantize_/workflows/int8/int8_tensor.py: Int8Tensor.from_hp, PerRow, whatever the dtype.
    """
    rows = part.shape[0]
    return Made(weight=(prod(part.shape), 4 * rows, rows))


def _torchao_float8(part: Part, options: Options) -> Made:
    """A byte an element, and a float32 scale for each row.

    torchao 0.18.0, quant_api.py: Float8WeightOnlyConfig, PerRow when nothing is said.
    """
    return Made(weight=(prod(part.shape), 4 * part.shape[0]))


def _torchao_float8_dynamic(part: Part, options: Options) -> Made | None:
    """A byte an element, and one float32 scale; a weight whose sides are no multiples of 16 stays.

    torchao 0.18.0, quant_api.py: Float8DynamicActivationFloat8WeightConfig, PerTensor when nothing is said;
    utils.py: _fp8_mm_compat.
    """
    if any(side % 16 for side in part.shape):
        return None
    return Made(weight=(prod(part.shape), 4))


def _torchao_int4(part: Part, options: Options) -> Made | None:
    """Half a byte an element, and for each group a scale and a zero point of the weight's dtype; a weight
    whose rows are no multiple of the group stays.

    torchao 0.18.0, quant_api.py: _int4_weight_only_quantize_tensor; int4_tensor.py: Int4Tensor.from_hp. Read,
    not run: it is made by the package mslk on a CUDA card.
    """
    rows, columns = part.shape
    group = options.get("group_size", GROUP)
    if columns % group:
        return None
    scales = rows * (columns // group) * ITEM[part.dtype]
    return Made(weight=(rows * columns // 2, scales, scales))


def _quanto_byte(part: Part, options: Options) -> Made:
    """A byte an element, and for each row a scale of the weight's dtype; two scalars beside it.

    optimum-quanto 0.2.7, tensor/weights/qbytes.py: WeightQBytesTensor; nn/qmodule.py: ``input_scale`` and
    ``output_scale``.
    """
    item = ITEM[part.dtype]
    return Made(weight=(prod(part.shape), part.shape[0] * item), buffers=(item, item))


def _quanto_bits(bits: int) -> Callable[[Part, Options], Made]:
    def made(part: Part, options: Options) -> Made:
        """``bits`` an element, and for each group a scale and a shift of the weight's dtype. Rows of at most
        128 are one group.

        optimum-quanto 0.2.7, nn/qmodule.py: QModuleMixin; tensor/packed.py: pack_weights;
        tensor/weights/qbits.py: WeightQBitsTensor, not the packing for the kernels of one device.
        """
        rows, columns = part.shape
        item = ITEM[part.dtype]
        group = _quanto_group(columns)
        scales = rows * columns // group
        packed = ceil(scales * bits / 8) * group
        return Made(weight=(packed, scales * item, scales * item), buffers=(item, item))

    return made


def _quanto_group(columns: int) -> int:
    """Elements that share a scale: the largest of 128, 96, 64, 32 that rows are made of, else a row."""
    if columns <= GROUP:
        return columns
    return next((group for group in (128, 96, 64, 32) if columns % group == 0), columns)


def _bitsandbytes_4bit(part: Part, options: Options) -> Made:
    """Half a byte an element, a float32 maximum for each 64 and the 16 values of the code. With
    ``double_quant`` a maximum is a byte, with a float32 for each 256 of them, their offset and a code of 256.

    bitsandbytes 0.50.0, functional.py: quantize_4bit, quantize_blockwise; nn/modules.py: Params4bit. Modules
    that were quantized on one device share the code of 256 until they are moved; each is counted here.
    """
    elements = prod(part.shape)
    blocks = ceil(elements / 64)
    packed, code = ceil(elements / 2), 16 * 4
    if not options.get("double_quant", False):
        return Made(weight=(packed, 4 * blocks, code))
    return Made(weight=(packed, blocks, code, 4, 4 * ceil(blocks / 256), 256 * 4))


def _bitsandbytes_int8(part: Part, options: Options) -> Made:
    """A byte an element, and a float32 scale for each row.

    bitsandbytes 0.50.0, nn/modules.py: Int8Params (CB, SCB).
    """
    return Made(weight=(prod(part.shape), 4 * part.shape[0]))


_FORMATS: Mapping[tuple[str, str], Callable[[Part, Options], Made | None]] = MappingProxyType(
    {
        **{("layerwise_cast", kind): _layerwise_cast for kind in BACKENDS["layerwise_cast"].types},
        ("torchao", "int8_weight_only"): _torchao_int8,
        ("torchao", "int8_dynamic"): _torchao_int8,
        ("torchao", "float8_weight_only"): _torchao_float8,
        ("torchao", "float8_dynamic"): _torchao_float8_dynamic,
        ("torchao", "int4_weight_only"): _torchao_int4,
        ("quanto", "int8"): _quanto_byte,
        ("quanto", "float8"): _quanto_byte,
        ("quanto", "int4"): _quanto_bits(4),
        ("quanto", "int2"): _quanto_bits(2),
        ("bitsandbytes", "nf4"): _bitsandbytes_4bit,
        ("bitsandbytes", "fp4"): _bitsandbytes_4bit,
        ("bitsandbytes", "int8"): _bitsandbytes_int8,
    }
)
