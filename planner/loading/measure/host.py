"""What an operation takes apart from its work: on the device, and on the host that hands it over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import mean
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from planner.loading.measure.timing import event, seconds_of, wait

DISPATCH = 26e-6
"""Where diffusers is not there to measure it: the mean of what a H200's host took for text encoders' (24 to
28 microseconds), a U-Net's (32) and a transformer's operations (26), with torch 2.11."""


IN_A_PIPELINE = 1.5
"""Of what small models take in a loop of nothing else: SDXL's U-Net took 29 microseconds an operation in its
pipeline on an H200 whose host took 18.3 for those, and text encoders 24 to 28."""


def launch(device: torch.device) -> float:
    """Seconds of an operation of nothing on the device, one behind the other, the host ahead of them."""
    tiny = torch.zeros(128, device=device)
    if device.type != "cuda":
        return seconds_of(lambda: tiny.add_(1), device)
    times = 400
    begin, end = event(), event()
    cuda: Any = torch.cuda
    tiny.add_(1)
    wait(device)
    cuda._sleep(40_000_000)  # some 20 ms, in which the host gets ahead
    begin.record()
    for _ in range(times):
        tiny.add_(1)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / times


def dispatch(device: torch.device) -> tuple[float, bool]:
    """Seconds that the host takes for one operation of a model's, and whether that was measured: of small
    models of diffusers and transformers, so small that the device is never what is waited for. Most of it
    is Python."""
    try:
        made = list(_models())
    except ImportError:
        return DISPATCH, False
    each = mean(_each(model, arguments, device) for model, arguments in made)
    return each * IN_A_PIPELINE, True


def _models() -> Iterator[tuple[nn.Module, dict[str, tuple[int, ...]]]]:
    """A U-Net and a text encoder, with the shapes of their arguments. Raises ImportError."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    net: Any = UNet2DConditionModel
    unet = net(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
        transformer_layers_per_block=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    yield unet, {"sample": (1, 4, 8, 8), "timestep": (), "encoder_hidden_states": (1, 8, 32)}
    config: Any = CLIPTextConfig
    text = config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=12, num_attention_heads=4, vocab_size=64
    )
    clip: Any = CLIPTextModel
    yield clip(text), {"input_ids": (1, 16)}


def _each(model: nn.Module, arguments: dict[str, tuple[int, ...]], device: torch.device) -> float:
    model = model.eval().to(device)
    given = {
        name: torch.ones(shape, device=device, dtype=torch.long if name == "input_ids" else torch.float32)
        for name, shape in arguments.items()
    }
    with torch.no_grad():
        with _Count() as counted:
            model(**given)
        best = float("inf")
        for _ in range(10):
            wait(device)
            start = time.perf_counter()
            model(**given)
            best = min(best, time.perf_counter() - start)
        wait(device)
    return best / int(counted.operations)


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations that make something: not those whose result is a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not (isinstance(out, torch.Tensor) and out._is_view()):
            self.operations += 1
        return out
