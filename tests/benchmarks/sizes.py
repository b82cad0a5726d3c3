"""Pipelines of true size with random weights: the bytes, shapes and blocks of the real ones, no download.

``small=True`` keeps the structure and drops the depth, for a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)


@dataclass(frozen=True)
class Size:
    """A pipeline to time: how it is made, and the arguments of its calls."""

    make: Callable[[bool, torch.device], Any]
    arguments: dict[str, Any]
    small: dict[str, Any] = field(default_factory=lambda: {"height": 64, "width": 64})

    def call(self, small: bool) -> dict[str, Any]:
        """The arguments of one call, without the number of steps."""
        return {"prompt": "a photo of a cat", **self.arguments, **(self.small if small else {})}


class Words:
    """In the place of a tokenizer: words become ids, padded to a fixed length."""

    def __init__(self, vocabulary: int, length: int, end: int) -> None:
        self.added_tokens_encoder: dict[str, int] = {}
        self.model_max_length = length
        self._vocabulary = vocabulary
        self._end = end

    def __call__(self, text: Any, max_length: int | None = None, **_: Any) -> Any:
        from transformers import BatchEncoding

        rows = [text] if isinstance(text, str) else list(text)
        ids = torch.full((len(rows), max_length or self.model_max_length), self._end)
        for row, words in enumerate(rows):
            for at, word in enumerate(words.split()):
                ids[row, at] = sum(map(ord, word)) % (self._vocabulary - 10)
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def tokenize(self, text: str, **_: Any) -> list[str]:
        return text.split()

    def batch_decode(self, ids: Any, **_: Any) -> list[str]:
        return [""] * len(ids)


def _model(make: Callable[[], Any], dtype: torch.dtype, device: torch.device) -> Any:
    """Made on ``device``, where random numbers are quick, and brought to the CPU."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            made = make()
    finally:
        torch.set_default_dtype(before)
    made = made.to(dtype).eval().requires_grad_(False).to("cpu")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return made


def _clip(small: bool, *, big: bool = False) -> Any:
    wide = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "projection_dim": 1280}
    thin = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
    config = CLIPTextConfig(
        vocab_size=49408,
        num_hidden_layers=1 if small else 32 if big else 12,
        max_position_embeddings=77,
        eos_token_id=2,
        **(wide if big else thin),
    )
    return CLIPTextModelWithProjection(config) if big else CLIPTextModel(config)


def _vae(channels: int, **more: Any) -> Any:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=channels,
        sample_size=1024,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        force_upcast=False,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )


def _sdxl(small: bool, device: torch.device) -> Any:
    dtype = torch.float32 if small else torch.float16
    unet = _model(
        lambda: UNet2DConditionModel(
            sample_size=128,
            in_channels=4,
            out_channels=4,
            block_out_channels=(320, 640, 1280),
            layers_per_block=1 if small else 2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=1 if small else (1, 2, 10),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
            use_linear_projection=True,
        ),
        dtype,
        device,
    )
    words = Words(49408, 77, 2)
    return StableDiffusionXLPipeline(
        vae=_model(lambda: _vae(4, scaling_factor=0.13025), dtype, device),
        text_encoder=_model(lambda: _clip(small), dtype, device),
        text_encoder_2=_model(lambda: _clip(small, big=True), dtype, device),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
        ),
    )


def _flux(small: bool, device: torch.device) -> Any:
    dtype = torch.float32 if small else torch.bfloat16
    transformer = _model(
        lambda: FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1 if small else 19,
            num_single_layers=2 if small else 38,
            attention_head_dim=128,
            num_attention_heads=2 if small else 24,
            joint_attention_dim=4096,
            pooled_projection_dim=768,
            guidance_embeds=True,
        ),
        dtype,
        device,
    )
    t5 = T5Config(
        vocab_size=32128,
        d_model=4096,
        d_ff=256 if small else 10240,
        d_kv=64,
        num_layers=1 if small else 24,
        num_heads=2 if small else 64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    vae = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_model(lambda: _vae(16, use_post_quant_conv=False, **vae), dtype, device),
        text_encoder=_model(lambda: _clip(small), dtype, device),
        tokenizer=Words(49408, 77, 2),
        text_encoder_2=_model(lambda: T5EncoderModel(t5), dtype, device),
        tokenizer_2=Words(32128, 512, 1),
        transformer=transformer,
    )


def _wan(small: bool, device: torch.device) -> Any:
    dtype = torch.float32 if small else torch.bfloat16

    def transformer() -> Any:
        return WanTransformer3DModel(
            num_attention_heads=2 if small else 40,
            attention_head_dim=128,
            in_channels=16,
            out_channels=16,
            text_dim=4096,
            freq_dim=256,
            ffn_dim=256 if small else 13824,
            num_layers=2 if small else 40,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
        )

    umt5 = UMT5Config(
        vocab_size=1000 if small else 256384,
        d_model=4096,
        d_ff=256 if small else 10240,
        d_kv=64,
        num_layers=1 if small else 24,
        num_heads=2 if small else 64,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    return WanPipeline(
        tokenizer=Words(1000, 512, 1),
        text_encoder=_model(lambda: UMT5EncoderModel(umt5), dtype, device),
        vae=_model(lambda: AutoencoderKLWan(base_dim=16 if small else 96), torch.float32, device),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=_model(transformer, dtype, device),
        transformer_2=_model(transformer, dtype, device),
        boundary_ratio=0.875,
    )


SIZES = {
    "sdxl": Size(_sdxl, {"height": 1024, "width": 1024, "guidance_scale": 5.0}),
    "flux": Size(_flux, {"height": 1024, "width": 1024, "guidance_scale": 3.5, "max_sequence_length": 512}),
    "wan": Size(
        _wan,
        {"height": 480, "width": 832, "num_frames": 33, "guidance_scale": 4.0},
        {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 16},
    ),
}


def builtin(name: str) -> Size:
    """One of the project's own small pipelines, loaded from its folder."""

    def make(small: bool, device: torch.device) -> Any:
        from diffusers import DiffusionPipeline

        from planner.loading.builtin import builtin_folder, quiet

        with quiet():
            return DiffusionPipeline.from_pretrained(builtin_folder(name))

    frames = {"num_frames": 5} if name == "tiny-wan" else {}
    return Size(make, {"height": 64, "width": 64, **frames}, {})
