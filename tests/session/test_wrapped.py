"""Quantized weights under a session's own movement: taken apart, streamed, and the very same afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from unpacking import in_python

from planner.device.pinned import Pins
from planner.forms.eight_bit import to_weights
from planner.forms.wrapped import parts
from planner.graph.split import split
from planner.host.layout import HostWeights
from planner.streaming.device_weights import DeviceWeights
from planner.target.blocks import blocks_of
from planner.target.wrapped import held
from planner.virtual.device import SimDevice

from .test_compile import Cpu  # the CPU as an accelerator: these classes cannot be made over a virtual tensor


class Layers(torch.nn.Module):
    """Linears by name, in bfloat16."""

    def __init__(
        self, linear: Callable[[int, int], torch.nn.Module] = torch.nn.Linear, count: int = 8
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter = torch.nn.Linear(64, 64)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(linear(64, 128), torch.nn.GELU(), linear(128, 64)) for _ in range(8)
        )
        self.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return x


def by_torchao(kind: str) -> Layers:
    from torchao import quantization

    made = Layers()
    quantization.quantize_(made.blocks, getattr(quantization, kind)())
    return made


def by_quanto(kind: str) -> Layers:
    from optimum import quanto

    in_python()
    made = Layers()
    quanto.quantize(made.blocks, weights=getattr(quanto, kind))
    quanto.freeze(made)
    return made


def by_bitsandbytes(kind: str, nested: bool) -> Layers:
    from bitsandbytes.nn.modules import Linear4bit

    def linear(inside: int, outside: int) -> torch.nn.Module:
        return Linear4bit(
            inside, outside, compute_dtype=torch.bfloat16, quant_type=kind, compress_statistics=nested
        )

    made = Layers(linear)
    for part in made.modules():
        if isinstance(part, Linear4bit):
            part.support_avx512bf16_for_cpu = False  # else its forward packs the weights anew
            part.weight = part.weight.to("cpu")  # which quantizes
    return made


def by_8_bits() -> Layers:
    from bitsandbytes.nn.modules import Linear8bitLt

    made = Layers(partial(Linear8bitLt, has_fp16_weights=False))
    for part in made.modules():
        if isinstance(part, Linear8bitLt):
            part.weight = part.weight.to("cpu")  # which quantizes
    return made


def by_gguf(kind: str) -> Layers:
    import gguf
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    made = Layers()
    for block in made.blocks:
        for name in ("0", "2"):
            plain: Any = block.get_submodule(name)
            layer = GGUFLinear(plain.in_features, plain.out_features, compute_dtype=torch.bfloat16)
            number = getattr(gguf.GGMLQuantizationType, kind)
            packed = gguf.quants.quantize(plain.weight.detach().float().numpy(), number)
            layer.weight = GGUFParameter(torch.from_numpy(packed), quant_type=number)
            layer.bias = plain.bias
            block.register_module(name, layer)
    return made


VIRTUAL: dict[str, Callable[[], Layers]] = {
    **{kind: partial(by_torchao, f"{kind}Config") for kind in ("Int8WeightOnly", "Float8WeightOnly")},
    "Int8Dynamic": lambda: by_torchao("Int8DynamicActivationInt8WeightConfig"),
    **{kind: partial(by_quanto, kind) for kind in ("qint8", "qfloat8", "qint4", "qint2")},
}
ON_CPU: dict[str, Callable[[], Layers]] = {
    **{f"{k}-{n}": partial(by_bitsandbytes, k, n) for k in ("nf4", "fp4") for n in (True, False)},
    "int8": by_8_bits,
    **{kind: partial(by_gguf, kind) for kind in ("Q8_0", "Q4_0")},
}


@pytest.mark.parametrize("share", [None, 0.0, 0.5])
@pytest.mark.parametrize("kind", [*VIRTUAL, *ON_CPU])
@torch.no_grad()
def test_it_computes_as_if_it_had_been_moved_whole(kind: str, share: float | None) -> None:
    module = (VIRTUAL | ON_CPU)[kind]()
    device: Any = SimDevice() if kind in VIRTUAL else Cpu(torch.device("cpu"))
    x = torch.randn(3, 64, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1)).to(device.name)
    expected = (VIRTUAL | ON_CPU)[kind]().to(device.name)(x).cpu()
    objects = dict((*module.named_parameters(), *module.named_buffers()))
    values = {name: [part.clone() for part in held(tensor)] for name, tensor in objects.items()}
    counted = blocks_of(module)

    master = HostWeights(module, Pins(device.name))
    assert master.sizes == counted
    made = None if share is None else split(master.sizes, int(master.nbytes * share), 1)
    moved: list[int] = []
    placed = DeviceWeights(master, device, "m", made, moved.append)
    placed.begin()
    assert made is None or made.buffer > 0
    for _ in range(4):
        placed.start_forward("")
        assert torch.equal(module(x).cpu(), expected)

    versions = [block.versions() for block in master.blocks]
    placed.release()
    assert versions == [block.versions() for block in master.blocks]
    assert sum(moved) >= master.nbytes

    assert not master.stale()
    to_weights(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        assert tensor is objects[name]
        assert all(torch.equal(a, b) for a, b in zip(held(tensor), values[name], strict=True))
    assert device.own == 0 if kind in ON_CPU else device.faults == ()


def test_what_only_its_own_class_can_move_has_no_parts() -> None:
    assert parts(torch.nn.Parameter(torch.eye(3).to_sparse())) is None
    assert parts(torch.nn.Parameter(torch.eye(3))) is not None


@torch.no_grad()
def test_a_scale_that_was_written_on_the_device_comes_home() -> None:
    module, device = by_torchao("Int8WeightOnlyConfig"), SimDevice()
    placed = DeviceWeights(HostWeights(module, Pins(device.name)), device, "m", None, lambda _: None)
    placed.begin()
    placed.settle()
    layer: Any = module.blocks.get_submodule("0.0")
    layer.weight.scale.fill_(2)
    placed.release()
    assert torch.all(layer.weight.scale == 2)
    assert layer.weight.scale.device.type == "cpu"


class Scaled(torch.nn.Parameter):
    """A Parameter that its layer asks for more than its values, as those of quantization libraries are."""

    scale: float


class AsksItsWeight(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert type(self.weight) is Scaled
        return super().forward(x) * self.weight.scale


@torch.no_grad()
def test_a_parameter_of_a_class_of_its_own_is_bound_as_one() -> None:
    module, device = AsksItsWeight(64, 64), Cpu(torch.device("cpu"))
    weight = torch.Tensor._make_subclass(Scaled, module.weight.detach())
    weight.scale = 3.0
    module.weight = weight
    x = torch.randn(3, 64)
    expected = module(x)
    master = HostWeights(module, Pins(device.name))
    assert [slot.host for slot in master.apart] == [weight]
    placed = DeviceWeights(master, device, "m", None, lambda _: None)
    placed.begin()
    placed.start_forward("")
    assert module.weight is not weight
    assert torch.equal(module(x), expected)
    placed.release()
    assert module.weight is weight
