"""Families that make videos: Wan, LTX, CogVideoX, HunyuanVideo, Latte, Allegro, Mochi."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from diffusers import (
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    HunyuanVideoTransformer3DModel,
    LatteTransformer3DModel,
    LTXVideoTransformer3DModel,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from diffusers.pipelines.wan import pipeline_wan_i2v, pipeline_wan_vace, pipeline_wan_video2video

from pipelines import parts
from pipelines.flows import flow
from pipelines.pictures import picture, video
from pipelines.registry import family

T5 = {"text_encoder": parts.t5, "tokenizer": parts.letters, "scheduler": flow}
CLIP = {
    "prompt": "a cat",
    "negative_prompt": "bad",
    "num_inference_steps": 2,
    "guidance_scale": 4.0,
    "height": 16,
    "width": 16,
    "max_sequence_length": 16,
    "output_type": "pt",
}


def wan(inputs: int = 16, cls: type[Any] = WanTransformer3DModel, **more: Any) -> Any:
    return cls(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=inputs,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **more,
    )


def wan_vae() -> Any:
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def unipc() -> Any:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


for module in (pipeline_wan_i2v, pipeline_wan_vace, pipeline_wan_video2video):
    # they need the package ftfy to repair text, and do not say so; plain text needs no repair
    if not hasattr(module, "ftfy"):
        module.ftfy = SimpleNamespace(fix_text=str)

WAN = T5 | {"transformer": wan, "vae": wan_vae}
TWO = {"transformer_2": wan, "scheduler": unipc}
family(
    WAN,
    {
        "WanPipeline": (CLIP | {"num_frames": 5},),
        "WanPipeline:two": (CLIP | {"num_frames": 5}, TWO, {"boundary_ratio": 0.875}),
        "WanVideoToVideoPipeline": (CLIP | {"video": lambda: video(5), "strength": 0.9},),
        "WanImageToVideoPipeline": (
            CLIP | {"num_frames": 5, "image": lambda: picture(16)},
            {
                "transformer": lambda: wan(36, image_dim=32),
                "image_encoder": parts.clip_vision,
                "image_processor": parts.clip_image_processor,
            },
        ),
        "WanImageToVideoPipeline:two": (
            CLIP | {"num_frames": 5, "image": lambda: picture(16)},
            TWO | {"transformer": lambda: wan(36), "transformer_2": lambda: wan(36)},
            {"boundary_ratio": 0.875},
        ),
        "WanVACEPipeline": (
            CLIP | {"num_frames": 5},
            {"transformer": lambda: wan(cls=WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=96)},
        ),
    },
)


def ltx() -> Any:
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=32,
    )


def ltx_vae() -> Any:
    made = AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    made.use_framewise_encoding = False
    made.use_framewise_decoding = False
    return made


LTX = CLIP | {"height": 32, "width": 32, "num_frames": 9}
family(
    T5 | {"transformer": ltx, "vae": ltx_vae},
    {
        "LTXPipeline": (LTX,),
        "LTXImageToVideoPipeline": (LTX | {"image": picture},),
        "LTXConditionPipeline": (LTX | {"image": picture},),
    },
)


def cogvideo(inputs: int = 4) -> Any:
    return CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8 if inputs == 4 else 16,
        in_channels=inputs,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
        use_rotary_positional_embeddings=inputs != 4,
        use_learned_positional_embeddings=inputs != 4,
    )


def cogvideo_vae() -> Any:
    return AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )


family(
    T5 | {"transformer": cogvideo, "vae": cogvideo_vae, "scheduler": DDIMScheduler},
    {
        "CogVideoXPipeline": (CLIP | {"num_frames": 8},),
        "CogVideoXVideoToVideoPipeline": (CLIP | {"video": lambda: video(8), "strength": 0.9},),
        "CogVideoXImageToVideoPipeline": (
            CLIP | {"num_frames": 8, "image": lambda: picture(16)},
            {"transformer": lambda: cogvideo(8)},
        ),
    },
)


def hunyuan() -> Any:
    return HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )


def hunyuan_vae() -> Any:
    return AutoencoderKLHunyuanVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )


family(
    {
        "text_encoder": parts.llama,
        "tokenizer": parts.letters,
        "text_encoder_2": lambda: parts.clip_text(hidden=8, layers=2),
        "tokenizer_2": parts.clip_tokenizer,
        "transformer": hunyuan,
        "vae": hunyuan_vae,
        "scheduler": flow,
    },
    {
        "HunyuanVideoPipeline": (
            {key: value for key, value in CLIP.items() if key != "negative_prompt"}
            | {"num_frames": 9, "prompt_template": lambda: {"template": "{}", "crop_start": 0}},
        ),
    },
)
family(
    T5
    | {
        "transformer": lambda: LatteTransformer3DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
        ),
        "vae": parts.vae,
        "scheduler": DDIMScheduler,
    },
    {
        "LattePipeline": (
            {key: value for key, value in CLIP.items() if key != "max_sequence_length"}
            | {"video_length": 1, "clean_caption": False},
        ),
    },
)


def allegro_vae() -> Any:
    made = AutoencoderKLAllegro(
        in_channels=3,
        out_channels=3,
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    made.enable_tiling()
    return made


family(
    T5
    | {
        "text_encoder": lambda: parts.t5(24),
        "transformer": lambda: AllegroTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            cross_attention_dim=24,
            sample_width=8,
            sample_height=8,
            sample_frames=8,
            caption_channels=24,
        ),
        "vae": allegro_vae,
        "scheduler": DDIMScheduler,
    },
    {"AllegroPipeline": (CLIP | {"num_frames": 8, "clean_caption": False},)},
)
family(
    T5
    | {
        "transformer": lambda: MochiTransformer3DModel(
            patch_size=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=16,
            in_channels=12,
            qk_norm="rms_norm",
            text_embed_dim=32,
            time_embed_dim=4,
            activation_fn="swiglu",
            max_sequence_length=16,
        ),
        "vae": lambda: AutoencoderKLMochi(
            latent_channels=12,
            out_channels=3,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
    },
    {"MochiPipeline": (CLIP | {"num_frames": 7},)},
)
