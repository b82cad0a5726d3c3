"""A weight that lies as float8 and computes as bfloat16: the numbers of a cast there and back, to the bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from planner.forms.cast import Cast
from planner.virtual.device import SimDevice

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(64, 32), (2, 5, 64)),
    "linear without bias": (lambda: nn.Linear(64, 32, bias=False), (7, 64)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"), (2, 4, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(4, 8, 3), (1, 4, 5, 5, 5)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 8, 3), (2, 4, 9)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2), (2, 4, 8, 8)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(4, 8, 3), (1, 4, 5, 5, 5)),
    "embedding": (lambda: nn.Embedding(10, 16, padding_idx=0), (3,)),
}
STORAGE = [torch.float8_e4m3fn, torch.float8_e5m2]


def made(layer: str) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    if layer == "embedding":
        return make().to(torch.bfloat16), torch.tensor([0, 3, 9])
    return make().to(torch.bfloat16), torch.randn(shape, dtype=torch.bfloat16)


def cast(module: nn.Module, storage: torch.dtype = torch.float8_e4m3fn) -> Any:
    with torch.no_grad():
        for part in module.modules():
            for key, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[key] = nn.Parameter(Cast(weight.to(storage), weight.dtype), False)
    return module


@pytest.mark.parametrize("storage", STORAGE, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("device", ["cpu", "sim:0"])
def test_a_layer_computes_with_the_values_of_the_cast(layer: str, storage: torch.dtype, device: str) -> None:
    SimDevice()
    module, x = made(layer)
    expected = copy.deepcopy(module).to(storage).to(torch.bfloat16).to(device)(x.to(device)).cpu()
    cast(module, storage).to(device)
    assert isinstance(module.weight, Cast)
    assert isinstance(module.weight, nn.Parameter)
    assert module.weight.stored.dtype is storage
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            assert torch.equal(module(x.to(device)).cpu(), expected)


def test_it_tells_the_dtype_that_it_computes_in() -> None:
    module, _ = made("linear")
    cast(module)
    assert module.weight.dtype is next(module.parameters()).dtype is torch.bfloat16
    assert module.weight.shape == (32, 64)
    assert module.weight.data.dtype is module.weight.detach().dtype is torch.bfloat16
    stored = module.weight.stored
    module.to(torch.float32)
    assert module.weight.dtype is torch.float32
    assert torch.equal(module.weight.stored, stored)


def test_who_reads_it_without_a_layer_gets_its_values() -> None:
    module, _ = made("linear")
    values = module.weight.detach().to(torch.float8_e4m3fn).to(torch.bfloat16)
    weight = cast(module).weight
    assert torch.equal(weight.t(), values.t())
    assert torch.equal(weight[3], values[3])
    assert torch.equal(weight + 1, values + 1)
    assert torch.equal(torch.cat([weight, weight]), torch.cat([values, values]))
    assert not isinstance(weight * 1, Cast)
    assert "bfloat16" in repr(weight)


@torch.no_grad()
def test_what_is_written_to_it_is_rounded_and_kept() -> None:
    module, _ = made("linear")
    values = module.weight.detach().to(torch.float8_e4m3fn).to(torch.bfloat16)
    weight = cast(module).weight
    weight.data += 1
    assert torch.equal(weight.full(), (values + 1).to(torch.float8_e4m3fn).to(torch.bfloat16))
    weight.copy_(values)
    assert torch.equal(weight.full(), values)


def test_a_copy_is_plain_and_loads_without_us(tmp_path: Any) -> None:
    module, x = made("linear")
    cast(module)
    with torch.no_grad():
        twin = copy.deepcopy(module)
        assert type(twin.weight) is nn.Parameter
        assert torch.equal(twin(x), module(x))
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        assert type(loaded["weight"]) is torch.Tensor
        assert torch.equal(loaded["weight"], module.weight.full())


@pytest.mark.filterwarnings("ignore:Cast does not implement")
def test_a_compiled_layer_has_it_whole() -> None:
    module, x = made("linear")
    expected = copy.deepcopy(module).to(torch.float8_e4m3fn).to(torch.bfloat16)(x)
    cast(module)
    with torch.no_grad():
        assert torch.equal(torch.compile(module, backend="aot_eager", fullgraph=True)(x), expected)
