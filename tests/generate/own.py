"""Pipeline classes of a user's own: new, copied, subclassed, wrapped."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(3)])

    @property
    def dtype(self) -> torch.dtype:
        return next(self.blocks.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.blocks.parameters()).device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


def twice(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net(net(x))


class OmniGen2Pipeline(DiffusionPipeline):
    """Near OmniGenPipeline by name, and nothing like it."""

    model_cpu_offload_seq = "enc->net->dec"
    _optional_components = ["guide"]  # noqa: RUF012

    def __init__(self, enc: Net, net: Net, dec: Net, guide: Net | None = None, size: int = 8) -> None:
        super().__init__()
        self.register_modules(enc=enc, net=net, dec=dec, guide=guide)

    @torch.no_grad()
    def __call__(self, prompt: str, num_inference_steps: int = 4, boost: float = 1.0, **kwargs: Any) -> Any:
        """Makes it.

        Args:
            prompt (`str`): What.
            shade (`float`, *optional*): Taken from kwargs.
        """
        x = self.enc(torch.ones(1, 8, device=self._execution_device))
        kwargs.pop("tint", None)
        for _ in range(num_inference_steps):
            x = self._denoise(x)
        return torch.stack([twice(self.dec, x)])

    def _denoise(self, x: torch.Tensor) -> torch.Tensor:
        if self.guide is not None:
            x = x + self.guide(x)
        return self.net(x)


class Renamed(OmniGen2Pipeline):
    """Only a name of its own, and a call that passes on."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class FluxPipeline(OmniGen2Pipeline):
    """A name that diffusers has too."""


class Upscaled(StableDiffusionXLPipeline):
    """diffusers' own, with one component and one use more."""

    def __init__(self, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, upscaler):  # type: ignore[no-untyped-def]
        self.register_modules(
            vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=tokenizer,
            tokenizer_2=tokenizer_2, unet=unet, scheduler=scheduler, upscaler=upscaler,
        )  # fmt: skip

    def __call__(self, prompt: str) -> Any:
        embeds, *_ = self.encode_prompt(prompt)
        for t in self.scheduler.timesteps:
            embeds = self.unet(embeds, t)
        return self.upscaler(self.vae.decode(embeds))


def make() -> OmniGen2Pipeline:
    return OmniGen2Pipeline(Net(), Net(), Net())


def make_renamed() -> OmniGen2Pipeline:
    return Renamed(Net(), Net(), Net())
