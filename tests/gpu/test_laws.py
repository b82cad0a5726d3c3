"""Laws of the runtime that ``tests/laws`` has on the virtual accelerator, on a CUDA device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cards import ON_CUDA
from laws.policies import SD, small, tensors_on, under
from laws.test_gradients import gradients_of, trained, with_lora
from laws.test_memory import WAYS, value
from pipelines.all import build
from torch.utils import dlpack

from planner.device.torch_device import TorchDevice

pytestmark = ON_CUDA

POLICIES = ("offload", "stream", "kept", "streamed, kept", "resident")


def capsule(layer: Any) -> Any:
    """Another library's reference, in which there is no tensor of torch's until it is taken out."""
    made = dlpack.to_dlpack(layer.weight.detach())  # type: ignore[attr-defined]
    return lambda: dlpack.from_dlpack(made)


HELD = WAYS | {"DLPack": capsule}


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    gc.collect()
    torch.cuda.empty_cache()


def nothing_left(pipe: Any, session: Any, device: TorchDevice) -> None:
    session.remove()
    gc.collect()
    assert device.abandoned == 0
    assert device.own == 0
    assert tensors_on(pipe, "cuda") == []
    assert not session.applied.state.is_locked()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", HELD)
def test_what_is_kept_of_a_weight_stays_right(way: str, policy: str) -> None:
    expected = small().to("cuda")()
    pipe, session, device = under(policy, TorchDevice(torch.device("cuda:0")), small())
    kept: dict[tuple[str, int], Any] = {}
    wanted = {("encoder", 1), ("big", 0), ("big", 5)}

    def keep(part: str) -> Callable[[int, Any], None]:
        def after(number: int, layer: Any) -> None:
            if (part, number) in wanted - kept.keys():
                kept[part, number] = HELD[way](layer)

        return after

    pipe.encoder.after, pipe.big.after = keep("encoder"), keep("big")
    for _ in range(3):
        assert torch.equal(pipe(), expected)
    assert kept.keys() == wanted
    true = small()
    for (part, number), one in kept.items():
        layer = getattr(true, part).layers[number]
        assert torch.equal(value(one), value(HELD[way](layer)))
    pipe.encoder.after = pipe.big.after = lambda number, layer: None
    for layer in (*pipe.encoder.layers, *pipe.big.layers):
        vars(layer).pop("cache", None)
    kept.clear()
    del one
    gc.collect()
    assert torch.equal(pipe(), expected)
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_of_all_weights_are_on_the_users_own_parameters(policy: str) -> None:
    whole = build(SD).to("cuda")
    right = gradients_of(whole, [*whole.unet.parameters()], on="cuda")
    pipe = build(SD)
    own = [*pipe.unet.parameters()]
    pipe, session, device = under(policy, TorchDevice(torch.device("cuda:0")), pipe)
    made = gradients_of(pipe, own, on="cuda")
    assert all(g is not None for g in made)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(made, right, strict=True))
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lora_is_trained_as_without_a_plan(policy: str) -> None:
    whole, mine = with_lora()
    whole.to("cuda")
    expected, right = trained(whole, mine, on="cuda")
    pipe, mine = with_lora()
    pipe, session, device = under(policy, TorchDevice(torch.device("cuda:0")), pipe)
    losses, gradients = trained(pipe, mine, on="cuda")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert len(gradients) == len(right) > 8
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(gradients, right, strict=True))
    nothing_left(pipe, session, device)
