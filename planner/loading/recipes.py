"""The built-in pipelines: real diffusers classes, a few MB each, the denoiser the largest.

Sizes are such that a call of a few steps at 64 to 128 pixels takes seconds on a CPU, and that no two
components weigh the same: a move of the wrong one shows in the bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from planner.loading.fill import seeded
from planner.loading.words import CLIP_SIZE, END, START, clip_pieces, unigram_pieces, write_clip, write_t5


def tiny_sdxl(work: Path) -> Any:
    """Two CLIP encoders, a UNet with cross-attention on two of three levels, a VAE of factor 8."""
    return StableDiffusionXLPipeline(
        tokenizer=_clip_tokenizer(work / "tokenizer"),
        tokenizer_2=_clip_tokenizer(work / "tokenizer_2"),
        text_encoder=_clip("tiny-sdxl.text_encoder", CLIPTextModel, hidden=64, layers=3),
        text_encoder_2=_clip("tiny-sdxl.text_encoder_2", CLIPTextModelWithProjection, hidden=96, layers=4),
        unet=seeded(
            "tiny-sdxl.unet",
            lambda: UNet2DConditionModel(
                sample_size=16,
                block_out_channels=(16, 32, 64),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 1, 2),
                attention_head_dim=(1, 2, 4),
                cross_attention_dim=64 + 96,
                norm_num_groups=8,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=16,
                projection_class_embeddings_input_dim=96 + 6 * 16,
            ),
        ),
        vae=seeded(
            "tiny-sdxl.vae",
            lambda: AutoencoderKL(
                sample_size=128,
                block_out_channels=(16, 16, 32, 32),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=1,
                latent_channels=4,
                norm_num_groups=8,
                scaling_factor=0.13025,
            ),
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    )


def tiny_flux(work: Path) -> Any:
    """CLIP and T5, a transformer of double and single blocks with guidance, a VAE of factor 8."""
    return FluxPipeline(
        tokenizer=_clip_tokenizer(work / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(write_t5(work / "tokenizer_2", 512)),
        text_encoder=_clip("tiny-flux.text_encoder", CLIPTextModel, hidden=48, layers=2),
        text_encoder_2=_t5("tiny-flux.text_encoder_2", T5EncoderModel, T5Config, width=96, layers=4),
        transformer=seeded(
            "tiny-flux.transformer",
            lambda: FluxTransformer2DModel(
                in_channels=64,
                num_layers=2,
                num_single_layers=3,
                attention_head_dim=24,
                num_attention_heads=4,
                joint_attention_dim=96,
                pooled_projection_dim=48,
                guidance_embeds=True,
                axes_dims_rope=(8, 8, 8),
            ),
        ),
        vae=seeded(
            "tiny-flux.vae",
            lambda: AutoencoderKL(
                sample_size=128,
                block_out_channels=(16, 16, 32, 32),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=1,
                latent_channels=16,
                norm_num_groups=8,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
                force_upcast=False,
            ),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )


def tiny_wan(work: Path) -> Any:
    """UMT5, a video transformer, a causal VAE of factor 8 in space and 4 in time (Wan 2.1's shape)."""
    return WanPipeline(
        tokenizer=T5TokenizerFast.from_pretrained(write_t5(work / "tokenizer", 512)),
        text_encoder=_t5("tiny-wan.text_encoder", UMT5EncoderModel, UMT5Config, width=64, layers=3),
        transformer=seeded(
            "tiny-wan.transformer",
            lambda: WanTransformer3DModel(
                num_attention_heads=4,
                attention_head_dim=24,
                in_channels=16,
                out_channels=16,
                text_dim=64,
                freq_dim=64,
                ffn_dim=256,
                num_layers=4,
            ),
        ),
        vae=seeded(
            "tiny-wan.vae",
            lambda: AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 2, 2], num_res_blocks=1),
        ),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )


RECIPES = {"tiny-sdxl": tiny_sdxl, "tiny-flux": tiny_flux, "tiny-wan": tiny_wan}


def _clip_tokenizer(folder: Path) -> Any:
    return CLIPTokenizer.from_pretrained(write_clip(folder))


def _clip(name: str, cls: Any, *, hidden: int, layers: int) -> Any:
    vocab, _ = clip_pieces()
    config = CLIPTextConfig(
        vocab_size=len(vocab),
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
        max_position_embeddings=CLIP_SIZE,
        hidden_size=hidden,
        projection_dim=hidden,
        intermediate_size=4 * hidden,
        num_attention_heads=4,
        num_hidden_layers=layers,
        hidden_act="gelu" if cls is CLIPTextModelWithProjection else "quick_gelu",
    )
    return seeded(name, lambda: cls(config))


def _t5(name: str, cls: Any, config: Any, *, width: int, layers: int) -> Any:
    made = config(
        vocab_size=len(unigram_pieces()),
        d_model=width,
        d_kv=16,
        d_ff=3 * width,
        num_layers=layers,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return seeded(name, lambda: cls(made))
