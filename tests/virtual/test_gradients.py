"""Gradients on the virtual device are the CPU's, bit for bit, and an error in a backward is an error."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from planner.virtual.autograd import Carried
from planner.virtual.backend import install
from planner.virtual.memory import METER


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def attention(backend: SDPBackend, **options: Any) -> Callable[..., torch.Tensor]:
    def run(*args: Any) -> torch.Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(*args, **options)

    return run


QKV = (rand(2, 2, 5, 8), rand(2, 2, 6, 8), rand(2, 2, 6, 8))
IMAGE = rand(2, 4, 8, 8)
MASK = rand(5, 6) > 0
Case = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]
FAMILIES: dict[str, Case] = {
    "linear": (F.linear, (rand(5, 4), rand(3, 4), rand(3))),
    "linear of three dimensions": (F.linear, (rand(2, 5, 4), rand(3, 4), rand(3))),
    "linear without a bias": (F.linear, (rand(2, 5, 4), rand(3, 4))),
    "matmul": (torch.matmul, (rand(2, 5, 4), rand(4, 3))),
    "matmul of batches": (torch.matmul, (rand(2, 3, 5, 4), rand(2, 1, 4, 3))),
    "matmul with a vector": (torch.matmul, (rand(5, 4), rand(4))),
    "addmm": (torch.addmm, (rand(3), rand(5, 4), rand(4, 3))),
    "baddbmm": (torch.baddbmm, (rand(2, 5, 3), rand(2, 5, 4), rand(2, 4, 3))),
    "einsum": (lambda a, b: torch.einsum("bic,bjc->bij", a, b), (rand(2, 5, 4), rand(2, 3, 4))),
    "conv1d": (F.conv1d, (rand(2, 4, 9), rand(6, 4, 3), rand(6))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (IMAGE, rand(6, 4, 3, 3), rand(6))),
    "conv2d in groups": (lambda x, w, b: F.conv2d(x, w, b, groups=2), (IMAGE, rand(6, 2, 3, 3), rand(6))),
    "conv3d": (F.conv3d, (rand(1, 2, 4, 5, 5), rand(3, 2, 2, 3, 3), rand(3))),
    "conv_transpose2d": (F.conv_transpose2d, (IMAGE, rand(4, 3, 3, 3), rand(3))),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (rand(2, 5, 4), rand(4), rand(4))),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (IMAGE, rand(4), rand(4))),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (IMAGE, rand(4), rand(4)),
    ),
    "instance_norm": (F.instance_norm, (IMAGE,)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), (rand(2, 5, 4), rand(4))),
    "attention as the CPU chooses": (F.scaled_dot_product_attention, QKV),
    "attention composed": (attention(SDPBackend.MATH), QKV),
    "attention fused": (attention(SDPBackend.FLASH_ATTENTION), QKV),
    "attention with a mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK.to(q.device)),
        QKV,
    ),
    "attention with a bias that learns": (F.scaled_dot_product_attention, (*QKV, rand(5, 6))),
    "causal attention": (lambda q, *kv: F.scaled_dot_product_attention(q, q, q, is_causal=True), QKV[:1]),
    "attention with a scale": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3), QKV),
    "grouped attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (rand(2, 4, 5, 8), rand(2, 2, 5, 8), rand(2, 2, 5, 8)),
    ),
    "embedding": (lambda w: F.embedding(torch.tensor([[1, 2], [2, 0]], device=w.device), w), (rand(4, 3),)),
    "softmax": (lambda x: x.softmax(-1), (rand(2, 5, 4),)),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.tensor([0, 2], device=x.device)), (rand(2, 4),)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2.0), (IMAGE,)),
    "interpolate bilinear": (lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"), (IMAGE,)),
    "pooling": (lambda x: F.avg_pool2d(x, 2) + F.max_pool2d(x, 2), (IMAGE,)),
    "pad and cat": (lambda x: torch.cat([F.pad(x, (1, 1)), F.pad(x, (2, 0))], 1), (IMAGE,)),
    "chunk and index": (lambda x: x.chunk(2, 1)[0][:, :, 1:, None] * x[:1, :2, :-1, None], (IMAGE,)),
    "sin and cos": (lambda x: x.sin() * x.cos() + x.exp().rsqrt(), (IMAGE,)),
    **{
        name: (getattr(F, name), (IMAGE,))
        for name in ("silu", "gelu", "relu", "mish", "elu", "sigmoid", "tanh", "softplus", "leaky_relu")
    },
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), (IMAGE,)),
    "glu": (lambda x: F.glu(x, 1), (IMAGE,)),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_gradient_is_the_cpus(family: str, dtype: torch.dtype) -> None:
    function, inputs = FAMILIES[family]
    seen = []
    for device in ("cpu", "sim:0"):
        leaves = [tensor.clone().to(device, dtype).requires_grad_() for tensor in inputs]
        out = function(*leaves)
        out.float().pow(2).sum().backward()
        assert all(leaf.grad is not None and leaf.grad.device == leaf.device for leaf in leaves)
        seen.append([out.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)])  # type: ignore[union-attr]
    assert all(map(torch.equal, *seen))


def test_a_recurrent_net_has_gradients_within_rounding() -> None:
    """The CPU has a kernel for the whole layer, which no other device has."""
    seen = []
    for device in ("cpu", "sim:0"):
        torch.manual_seed(0)
        net = nn.LSTM(3, 4, batch_first=True).to(device)
        net(rand(2, 5, 3).to(device))[0].pow(2).sum().backward()
        seen.append([weight.grad.cpu() for weight in net.parameters() if weight.grad is not None])
    assert len(seen[0]) == len(seen[1]) == 4
    assert all(map(torch.allclose, *seen))


def make() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 8)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), norm, nn.SiLU(), nn.Flatten(), nn.Linear(512, 5), nn.LayerNorm(5)
    )


def loss(net: nn.Module, device: str) -> torch.Tensor:
    out: torch.Tensor = net(IMAGE.to(device)).pow(2).sum()
    return out


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [weight.grad.cpu() for weight in net.parameters() if weight.grad is not None]


def both(step: Callable[[nn.Sequential, str], object]) -> bool:
    """Whether ``step`` leaves the same gradients and weights on both devices."""
    seen = []
    for device in ("cpu", "sim:0"):
        net = make().to(device)
        step(net, device)
        assert len(gradients(net)) == 8
        seen.append([*gradients(net), *(weight.detach().cpu() for weight in net.parameters())])
    return all(map(torch.equal, *seen))


def test_gradients_accumulate() -> None:
    def step(net: nn.Module, device: str) -> None:
        for _ in range(3):
            loss(net, device).backward()

    assert both(step)


def test_a_graph_that_is_kept_gives_them_again_and_one_that_is_not_an_error() -> None:
    def step(net: nn.Module, device: str) -> None:
        out = loss(net, device)
        out.backward(retain_graph=True)
        out.backward()
        with pytest.raises(RuntimeError, match="second time"):
            out.backward()

    assert both(step)


def test_second_derivatives() -> None:
    def step(net: nn.Module, device: str) -> None:
        first = torch.autograd.grad(loss(net, device), net[0].weight, create_graph=True)  # type: ignore[index]
        first[0].pow(2).sum().backward()
        loss(net, device).backward()  # the last bias has no second derivative

    assert both(step)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_again(reentrant: bool) -> None:
    ran = []

    def step(net: nn.Sequential, device: str) -> None:
        net[1].register_forward_pre_hook(lambda *_: ran.append(device))
        image = IMAGE.clone().to(device).requires_grad_()
        checkpoint(net, image, use_reentrant=reentrant).pow(2).sum().backward()
        assert image.grad is not None

    assert both(step)
    assert ran == ["cpu", "cpu", "sim:0", "sim:0"]


def test_what_is_saved_goes_through_the_hooks_as_tensors_of_the_device() -> None:
    packed = {"cpu": 0, "sim": 0}

    def pack(tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
        packed[tensor.device.type] += 1
        return str(tensor.device), tensor.cpu()

    def step(net: nn.Module, device: str) -> None:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept[1].to(kept[0])):
            out = loss(net, device)
        out.backward()

    assert both(step)
    assert packed["sim"] == packed["cpu"] > 8


def test_hooks_are_called_with_what_is_on_the_device() -> None:
    seen: dict[str, list[str]] = {"cpu": [], "sim": []}

    def step(net: nn.Sequential, device: str) -> None:
        def after(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            seen[weight.device.type].append("accumulated")
            assert weight.grad.device == weight.device

        for weight in net.parameters():
            weight.register_post_accumulate_grad_hook(after)
        net.get_parameter("4.weight").register_hook(lambda grad: grad * 2)
        net[0].register_full_backward_hook(lambda *_: seen[torch.device(device).type].append("module"))
        loss(net, device).backward()

    assert both(step)
    assert seen["sim"] == seen["cpu"]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.AdamW, {"foreach": False}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.Adafactor, {}),
    ],
)
def test_an_optimizer_takes_the_same_steps(optimizer: Any, options: dict[str, Any]) -> None:
    def step(net: nn.Module, device: str) -> None:
        steps = optimizer(net.parameters(), lr=0.01, **options)
        for _ in range(3):
            steps.zero_grad()
            loss(net, device).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            steps.step()

    assert both(step)


def test_a_gradient_crosses_to_a_leaf_on_the_host() -> None:
    leaf = rand(3).requires_grad_()
    (leaf.to("sim:0") * 2).sum().backward()
    assert torch.equal(leaf.grad, torch.full((3,), 2.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("adapters", ["attention", "all linear"])
def test_a_lora_of_a_unet_learns_the_same(adapters: str) -> None:
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    seen = []
    for device in ("cpu", "sim:0"):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=4,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        unet.requires_grad_(False)
        where: Any = ["to_q", "to_v"] if adapters == "attention" else "all-linear"
        unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=where, init_lora_weights="gaussian"))
        unet.to(device).train()
        unet.enable_gradient_checkpointing()
        learns = [weight for weight in unet.parameters() if weight.requires_grad]
        steps = torch.optim.AdamW(learns, lr=0.01)
        for _ in range(2):
            noise = unet(rand(1, 4, 8, 8).to(device), 3, rand(1, 5, 8).to(device)).sample
            F.mse_loss(noise, rand(1, 4, 8, 8).to(device)).backward()
            steps.step()
        assert learns
        assert all(weight.grad is not None for weight in learns)
        seen.append([weight.detach().cpu() for weight in learns] + [w.grad.cpu() for w in learns])
    assert all(map(torch.equal, *seen))


@contextmanager
def no_memory() -> Iterator[None]:
    METER.limit = METER.allocated
    try:
        yield
    finally:
        METER.limit = None


def test_running_out_of_memory_in_a_backward_is_torchs_error() -> None:
    net = make().to("sim:0")
    out = loss(net, "sim:0")
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError, match="sim out of memory"), no_memory():
            out.backward(retain_graph=True)
    net.zero_grad()
    out.backward()
    assert len(gradients(net)) == 8


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt("in a hook")


def on_a_gradient(net: nn.Sequential) -> torch.Tensor:
    net.get_parameter("4.weight").register_hook(interrupt)
    return loss(net, "sim:0")


def on_an_accumulated_gradient(net: nn.Sequential) -> torch.Tensor:
    net.get_parameter("4.weight").register_post_accumulate_grad_hook(interrupt)
    return loss(net, "sim:0")


def on_what_was_saved(net: nn.Sequential) -> torch.Tensor:
    # packed as nothing: torch (2.13) never lets go of what was packed when a hook raises, on any device
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, interrupt):
        return loss(net, "sim:0")


def on_a_node(net: nn.Sequential) -> torch.Tensor:
    out = loss(net, "sim:0")
    assert out.grad_fn is not None
    out.grad_fn.register_prehook(interrupt)
    return out


def in_a_checkpoint(net: nn.Sequential) -> torch.Tensor:
    out: torch.Tensor = checkpoint(net, IMAGE.to("sim:0").requires_grad_(), use_reentrant=True)
    net[2].register_forward_pre_hook(interrupt)
    return out.sum()


def in_a_function(net: nn.Sequential) -> torch.Tensor:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            interrupt()

    out: torch.Tensor = Same.apply(loss(net, "sim:0"))
    return out


@pytest.mark.parametrize(
    "prepare",
    [
        on_a_gradient,
        on_an_accumulated_gradient,
        on_what_was_saved,
        on_a_node,
        in_a_checkpoint,
        in_a_function,
    ],
)
def test_whatever_is_raised_in_a_backward_is_raised_by_it(
    prepare: Callable[[nn.Sequential], torch.Tensor],
) -> None:
    for _ in range(70):  # the interpreter specializes what ran often, and must not lose the error then
        out = prepare(make().to("sim:0"))
        with pytest.raises(KeyboardInterrupt, match="in a hook"):
            out.backward()
    assert both(lambda net, device: loss(net, device).backward())


@pytest.mark.parametrize("torchs", ["as it is here", "as up to 2.11"])
def test_what_is_carried_to_a_backwards_threads_is_held_as_long(
    torchs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch up to 2.11 takes the caller's reference, and its caller's object is gone too early."""
    keep = torch._C._stash_obj_in_tls
    if torchs == "as up to 2.11":
        drop = ctypes.pythonapi.Py_DecRef
        drop.argtypes = (ctypes.py_object,)

        def take(name: str, value: object) -> None:
            keep(name, value)
            if keeps:
                drop(value)

        probe = object()
        before = sys.getrefcount(probe)
        keep("planner.tests", probe)
        keeps = sys.getrefcount(probe) > before
        if not keeps:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(probe))
        monkeypatch.setattr(torch._C, "_stash_obj_in_tls", take)
        monkeypatch.delattr(torch._C, "_remove_obj_from_tls", raising=False)
    carried, value = Carried("planner.tests"), object()
    before = sys.getrefcount(value)
    for _ in range(3):
        carried.put(value)
        assert carried.get() is value
        assert sys.getrefcount(value) == before + 1
    carried.put(None)
    assert carried.get() is None
    assert sys.getrefcount(value) == before
