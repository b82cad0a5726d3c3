"""What scripts do with a tensor of the card: as on CUDA."""

from __future__ import annotations

from typing import Any, cast

import numpy
import pytest
import torch
from torch import nn
from torch.nn.attention import flex_attention as flex

from planner.virtual.backend import install


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("count", torch.zeros(1))


def test_a_module_keeps_its_parameters_on_the_way_there_and_back() -> None:
    net = Tied()
    weight, values = net.embed.weight, net.embed.weight.detach().clone()
    weight.mark = "mine"  # type: ignore[attr-defined]
    for device in ("sim:0", "cpu", "sim:0", "sim:0", "cpu"):
        net.to(device)
        assert net.embed.weight is net.head.weight is weight
        assert weight.device == net.count.device == torch.device(device)
        assert isinstance(weight, nn.Parameter)
        assert weight.requires_grad
        assert weight.is_leaf
        assert weight.mark == "mine"  # type: ignore[attr-defined]
        assert torch.equal(weight.detach().cpu(), values)
    assert type(weight) is nn.Parameter
    assert not {"elem", "block"} & {*weight.__dict__}


def test_an_optimizer_made_before_the_move_steps_what_moved() -> None:
    net = nn.Linear(3, 2)
    steps = torch.optim.SGD(net.parameters(), lr=1.0)
    before = net.weight.detach().clone()
    net.to("sim:0")
    net(torch.ones(1, 3, device="sim:0")).sum().backward()
    steps.step()
    assert torch.equal(net.weight.detach().cpu(), before - 1)


def test_a_gradient_moves_with_its_module() -> None:
    net = nn.Linear(3, 2)
    net(torch.ones(1, 3)).sum().backward()
    grad = net.weight.grad
    for device in ("sim:0", "cpu"):
        net.to(device)
        assert net.weight.grad is grad
        assert grad is not None
        assert grad.device == torch.device(device)
        assert torch.equal(grad.cpu(), torch.ones(2, 3))


def test_a_module_changes_its_dtype_and_its_device_at_once() -> None:
    net = Tied().requires_grad_(False)
    weight, values = net.embed.weight, net.embed.weight.clone()
    net.to("sim:0", torch.bfloat16)
    assert weight is net.head.weight
    assert not weight.requires_grad
    assert torch.equal(net.to("cpu").embed.weight, values.bfloat16())


def test_data_may_be_of_the_other_device() -> None:
    for tensor in (torch.ones(3), nn.Parameter(torch.ones(3))):
        again, kind = tensor, type(tensor)
        tensor.data = tensor.data.to("sim:0") * 2
        assert tensor.device == torch.device("sim:0")
        tensor.data = tensor.data.cpu()
        assert tensor is again
        assert type(tensor) is kind
        assert tensor.tolist() == [2.0] * 3


def test_data_of_a_result_may_not() -> None:
    result = nn.Parameter(torch.ones(3)) * 2
    with pytest.raises(RuntimeError, match="incompatible tensor type"):
        result.data = torch.ones(3, device="sim:0")


def test_weights_of_a_class_of_their_own_do_not_lose_it() -> None:
    class Own(nn.Parameter):
        pass

    net = nn.Linear(2, 2)
    net.weight = own = Own(torch.ones(2, 2))
    net.to("sim:0")
    assert type(own) is Own
    assert own.device.type == "cpu"
    assert net.weight.device == torch.device("sim:0")


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [(1.25, ".3f", "1.250"), (3, "04d", "0003"), (True, "", "True"), (1.0, ">6", "   1.0")],
)
def test_a_number_is_formatted(value: Any, spec: str, text: str) -> None:
    assert format(torch.tensor(value, device="sim:0"), spec) == format(torch.tensor(value), spec) == text


def test_what_is_no_number_is_not() -> None:
    for tensor in (torch.ones(2), nn.Parameter(torch.tensor(1.0))):
        for there in (tensor, tensor.to("sim:0")):
            if not isinstance(there, nn.Parameter) and there.dim() == 0:
                continue  # `to` gives no parameter: a number
            with pytest.raises(TypeError, match="unsupported format string"):
                format(there, ".3f")
    assert "device='sim:0'" in f"{torch.ones(2, device='sim:0')}"


@pytest.mark.parametrize("ask", [numpy.asarray, numpy.array, lambda t: t.numpy(), lambda t: t.sum().numpy()])
def test_numpy_takes_no_tensor_of_the_device(ask: Any) -> None:
    with pytest.raises(TypeError, match=r"can't convert sim:0 device type tensor to numpy"):
        ask(torch.ones(2, device="sim:0"))


def test_numpy_by_force_is_a_copy() -> None:
    there = torch.ones(2, device="sim:0").requires_grad_()
    copied = there.numpy(force=True)
    copied[:] = 2
    assert there.tolist() == [1.0, 1.0]
    assert numpy.array_equal(there.detach().cpu().numpy(), [1, 1])


@pytest.mark.parametrize("compiler", [pytest.param("eager", marks=pytest.mark.wide), "aot_eager"])
def test_a_compiled_module_runs_and_says_nothing(compiler: str, capfd: pytest.CaptureFixture[str]) -> None:
    torch._dynamo.reset()
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).to("sim:0")
    data = torch.ones(2, 3, device="sim:0")
    compiled = torch.compile(net, backend=compiler)
    assert torch.equal(compiled(data), net(data))
    compiled(data).sum().backward()
    assert net[0].weight.grad is not None
    assert "_counted" not in capfd.readouterr().err


def test_flex_attention_is_the_cpus_and_has_a_gradient() -> None:
    offset, parts = torch.tensor(3), torch.arange(128) // 16
    inputs = [torch.randn(1, 2, 128, 8) for _ in range(3)]
    seen, attention = [], cast(Any, flex.flex_attention)
    for device in ("cpu", "sim:0"):
        there, ours = offset.to(device), parts.to(device)

        def mask(b: Any, h: Any, q: Any, k: Any, there: Any = there, ours: Any = ours) -> Any:
            return (q + there >= k) & (ours[q] >= ours[k])

        blocks = flex.create_block_mask(mask, None, None, 128, 128, device=device)
        tensors = [tensor.to(device) for tensor in inputs]
        for context in (torch.no_grad, torch.inference_mode):
            with context():
                seen.append(attention(*tensors, block_mask=blocks).cpu())
        seen.append(attention(*tensors, score_mod=lambda s, *_: s * 2, block_mask=blocks).cpu())
    assert all(map(torch.equal, seen[:3], seen[3:]))
    assert torch.equal(seen[0], seen[1])
    leaves = [tensor.requires_grad_() for tensor in tensors]
    attention(*leaves, block_mask=blocks).sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_flex_attention_refuses_what_it_refuses_anywhere() -> None:
    query, key = (torch.ones(1, heads, 128, 8, device="sim:0") for heads in (2, 4))
    with pytest.raises(ValueError, match="same number of heads"):
        flex.flex_attention(query, key, key)
