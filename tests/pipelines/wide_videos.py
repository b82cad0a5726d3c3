"""More families that make videos or sound."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AceStepTransformer1DModel,
    AnyFlowFARTransformer3DModel,
    AnyFlowTransformer3DModel,
    AutoencoderKLCosmos,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMagvit,
    AutoencoderOobleck,
    ChronoEditTransformer3DModel,
    CosineDPMSolverMultistepScheduler,
    CosmosTransformer3DModel,
    DPMSolverMultistepScheduler,
    EasyAnimateTransformer3DModel,
    EDMEulerScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeliosScheduler,
    HeliosTransformer3DModel,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    MotifVideoTransformer3DModel,
    SanaVideoTransformer3DModel,
    SkyReelsV2Transformer3DModel,
    StableAudioDiTModel,
    StableAudioProjectionModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.models.transformers import transformer_cosmos
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from transformers import BatchFeature, SiglipImageProcessor, T5Gemma2Encoder, T5Gemma2EncoderConfig

from pipelines import parts
from pipelines.flows import GEMMA, flow
from pipelines.pictures import picture, video
from pipelines.registry import WIDE, family
from pipelines.videos import CLIP, T5, hunyuan_vae, ltx_vae, unipc, wan, wan_vae
from pipelines.wide_flows import siglip

for name in ("skyreels_v2", "chronoedit", "lucy", "helios"):
    for found in pkgutil.iter_modules(importlib.import_module(f"diffusers.pipelines.{name}").__path__):
        importlib.import_module(f"diffusers.pipelines.{name}.{found.name}")
for module in [m for n, m in sys.modules.items() if n.startswith("diffusers.pipelines.")]:
    if hasattr(module, "is_ftfy_available") and not hasattr(module, "ftfy"):
        module.ftfy = SimpleNamespace(fix_text=str)  # type: ignore[attr-defined]


def _resize(image: torch.Tensor, size: list[int], interpolation: Any = None) -> torch.Tensor:
    return torch.nn.functional.interpolate(image, size=tuple(size), mode="nearest")


if not hasattr(transformer_cosmos, "transforms"):
    # it needs torchvision to resize a mask of zeros, and does not say so
    transformer_cosmos.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=_resize), InterpolationMode=SimpleNamespace(NEAREST=None)
    )

VISION = {"image_encoder": lambda: parts.clip_vision(), "image_processor": parts.clip_image_processor}


def skyreels(inputs: int = 16, **more: Any) -> Any:
    return wan(inputs, SkyReelsV2Transformer3DModel, **more)


SKY = CLIP | {"num_frames": 9}
family(
    T5 | {"transformer": skyreels, "vae": wan_vae, "scheduler": unipc},
    {
        "SkyReelsV2Pipeline": (SKY,),
        "SkyReelsV2DiffusionForcingPipeline": (SKY,),
        "SkyReelsV2ImageToVideoPipeline": (
            SKY | {"image": lambda: picture(16)},
            VISION | {"transformer": lambda: skyreels(36, image_dim=32)},
        ),
        "SkyReelsV2DiffusionForcingImageToVideoPipeline": (SKY | {"image": lambda: picture(16)},),
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline": (
            SKY
            | {
                "video": lambda: video(7),
                "overlap_history": 3,
                "num_frames": 17,
                "base_num_frames": 5,
            },
        ),
    },
    WIDE,
)
family(
    T5 | {"vae": wan_vae},
    {
        "ChronoEditPipeline": (
            CLIP | {"num_frames": 5, "image": lambda: picture(16)},
            VISION | {"transformer": lambda: wan(36, ChronoEditTransformer3DModel, image_dim=32)},
        ),
        "LucyEditPipeline": (
            CLIP | {"video": lambda: video(5), "num_frames": 5},
            {"transformer": lambda: wan(32)},
        ),
    },
    WIDE,
)
FLOW_MAP: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "rope_max_seq_len": 32,
    "gate_value": 0.25,
    "deltatime_type": "r",
}
family(
    T5
    | {
        "vae": wan_vae,
        "scheduler": lambda: FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0),
    },
    {
        "AnyFlowPipeline": (
            CLIP | {"num_frames": 9},
            {"transformer": lambda: AnyFlowTransformer3DModel(**FLOW_MAP)},
        ),
        "AnyFlowFARPipeline": (
            CLIP | {"num_frames": 9, "chunk_partition": [1, 2]},
            {"transformer": lambda: AnyFlowFARTransformer3DModel(**FLOW_MAP, chunk_partition=(1, 2))},
        ),
    },
    WIDE,
)


def t5gemma2() -> Any:
    text = {"vocab_size": 1000, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}
    small = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = T5Gemma2EncoderConfig(
        text_config=small | text | {"pad_token_id": 0, "dropout_rate": 0.0},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        mm_tokens_per_image=4,
    )
    return T5Gemma2Encoder(config, eoi_token_index=998)


def motif(**more: Any) -> Any:
    return MotifVideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        text_embed_dim=32,
        rope_axes_dim=(4, 4, 4),
        **more,
    )


class _OnItsDevice(SiglipImageProcessor):  # untyped
    """Takes tensors of any device, as the one does that needs torchvision; that without asks for numpy."""

    def preprocess(self, images: torch.Tensor, **kwargs: Any) -> BatchFeature:
        resized = torch.nn.functional.interpolate(images, size=(32, 32), mode="nearest")
        return BatchFeature({"pixel_values": resized})


MOTIF = {key: value for key, value in CLIP.items() if key != "guidance_scale"} | {"num_frames": 5}
family(
    {
        "vae": wan_vae,
        "scheduler": flow,
        "text_encoder": t5gemma2,
        "tokenizer": parts.letters,
        "guider": ClassifierFreeGuidance,
        "feature_extractor": _OnItsDevice,
    },
    {
        "MotifVideoPipeline": (MOTIF, {"transformer": motif}),
        "MotifVideoImage2VideoPipeline": (
            MOTIF | {"image": lambda: picture(16)},
            {"transformer": lambda: motif(image_embed_dim=32)},
        ),
    },
    WIDE,
)


def framepack() -> Any:
    return HunyuanVideoFramepackTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
        image_condition_type=None,
        has_image_proj=True,
        image_proj_dim=32,
        has_clean_x_embedder=True,
    )


def siglip_processor() -> Any:
    from transformers import SiglipImageProcessor

    return SiglipImageProcessor(size={"height": 32, "width": 32})


def skyreels_hunyuan() -> Any:
    return HunyuanVideoTransformer3DModel(
        in_channels=8,
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


PLAIN = {key: value for key, value in CLIP.items() if key != "negative_prompt"}
TEMPLATE = {"prompt_template": lambda: {"template": "{}", "crop_start": 0}}
family(
    {
        "text_encoder": parts.llama,
        "tokenizer": parts.letters,
        "text_encoder_2": lambda: parts.clip_text(hidden=8, layers=2),
        "tokenizer_2": parts.clip_tokenizer,
        "vae": hunyuan_vae,
        "scheduler": flow,
    },
    {
        "HunyuanVideoFramepackPipeline": (
            PLAIN
            | TEMPLATE
            | {
                "image": lambda: picture(32),
                "height": 32,
                "width": 32,
                "num_frames": 9,
                "latent_window_size": 3,
            },
            {
                "transformer": framepack,
                "image_encoder": siglip,
                "feature_extractor": siglip_processor,
            },
        ),
        "HunyuanSkyreelsImageToVideoPipeline": (
            PLAIN | TEMPLATE | {"image": lambda: picture(16), "num_frames": 9},
            {"transformer": skyreels_hunyuan},
        ),
    },
    WIDE,
)


def magvit() -> Any:
    return AutoencoderKLMagvit(
        in_channels=3,
        out_channels=3,
        down_block_types=("SpatialDownBlock3D", *("SpatialTemporalDownBlock3D",) * 3),
        up_block_types=("SpatialUpBlock3D", *("SpatialTemporalUpBlock3D",) * 3),
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )


def easyanimate(inputs: int = 4) -> Any:
    return EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=inputs,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=1,
        sample_width=16,
        sample_height=16,
        patch_size=2,
    )


EASY = {k: v for k, v in CLIP.items() if k != "max_sequence_length"} | {"num_frames": 5}
family(
    {
        "text_encoder": parts.qwen_vl,
        "tokenizer": parts.letters,
        "transformer": easyanimate,
        "vae": magvit,
        "scheduler": flow,
    },
    {
        "EasyAnimatePipeline": (EASY,),
    },
    WIDE,
)


class Approves:
    """In the place of the guardrail, which is a package of its own."""

    def to(self, *_: Any, **__: Any) -> Any:
        return self

    def check_text_safety(self, _: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def cosmos(inputs: int, out: int) -> Any:
    return CosmosTransformer3DModel(
        in_channels=inputs,
        out_channels=out,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True,
        extra_pos_embed_type="learnable",
    )


def cosmos_vae() -> Any:
    return AutoencoderKLCosmos(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=2,
        patch_size=4,
        patch_type="haar",
        scaling_factor=1.0,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )


def edm() -> Any:
    return EDMEulerScheduler(
        sigma_min=0.002,
        sigma_max=80,
        sigma_data=0.5,
        sigma_schedule="karras",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        rho=7.0,
        final_sigmas_type="sigma_min",
    )


def karras_flow() -> Any:
    return FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


COSMOS = CLIP | {"height": 32, "width": 32}
family(
    T5 | {"safety_checker": Approves},
    {
        "CosmosTextToWorldPipeline": (
            COSMOS | {"num_frames": 9},
            {"transformer": lambda: cosmos(4, 4), "vae": cosmos_vae, "scheduler": edm},
        ),
        "CosmosVideoToWorldPipeline": (
            COSMOS | {"num_frames": 9, "image": picture},
            {"transformer": lambda: cosmos(5, 4), "vae": cosmos_vae, "scheduler": edm},
        ),
        "Cosmos2TextToImagePipeline": (
            COSMOS,
            {"transformer": lambda: cosmos(16, 16), "vae": wan_vae, "scheduler": karras_flow},
        ),
        "Cosmos2VideoToWorldPipeline": (
            COSMOS | {"num_frames": 9, "image": picture},
            {"transformer": lambda: cosmos(17, 16), "vae": wan_vae, "scheduler": karras_flow},
        ),
    },
    WIDE,
)


def sana_video() -> Any:
    return SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=(1, 2, 2),
        norm_elementwise_affine=False,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


SANA = CLIP | {
    "height": 32,
    "width": 32,
    "frames": 9,
    "complex_human_instruction": list,
    "use_resolution_binning": False,
}
family(
    GEMMA | {"transformer": sana_video, "vae": wan_vae},
    {
        "SanaVideoPipeline": (SANA, {"scheduler": DPMSolverMultistepScheduler}),
        "SanaImageToVideoPipeline": (SANA | {"image": picture},),
    },
    WIDE,
)
family(
    {
        "vae": ltx_vae,
        "latent_upsampler": lambda: LTXLatentUpsamplerModel(
            in_channels=8,
            mid_channels=32,
            num_blocks_per_stage=1,
            dims=3,
            spatial_upsample=True,
            temporal_upsample=False,
        ),
    },
    {
        "LTXLatentUpsamplePipeline": (
            {"video": lambda: video(5, 32), "height": 16, "width": 16, "output_type": "pt"},
        ),
    },
    WIDE,
)
family(
    T5
    | {
        "vae": wan_vae,
        "transformer": lambda: HeliosTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=32,
            freq_dim=256,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_dim=(4, 4, 4),
            has_multi_term_memory_patch=True,
            guidance_cross_attn=True,
            zero_history_timestep=True,
            is_amplify_history=False,
        ),
        "scheduler": lambda: HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True),
    },
    {"HeliosPipeline": (CLIP | {"num_frames": 9, "guidance_scale": 1.0},)},
    WIDE,
)
family(
    {
        "text_encoder": lambda: parts.t5(32),
        "tokenizer": lambda: parts.letters((), 25),
        "transformer": lambda: StableAudioDiTModel(
            sample_size=4,
            in_channels=3,
            num_layers=2,
            attention_head_dim=4,
            num_key_value_attention_heads=2,
            out_channels=3,
            cross_attention_dim=4,
            time_proj_dim=8,
            global_states_input_dim=8,
            cross_attention_input_dim=4,
        ),
        "scheduler": lambda: CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
        "vae": lambda: AutoencoderOobleck(
            encoder_hidden_size=6,
            downsampling_ratios=[1, 2],
            decoder_channels=3,
            decoder_input_channels=3,
            audio_channels=2,
            channel_multiples=[2, 4],
            sampling_rate=4,
        ),
        "projection_model": lambda: StableAudioProjectionModel(
            text_encoder_dim=32, conditioning_dim=4, min_value=0, max_value=32
        ),
    },
    {
        "StableAudioPipeline": (
            {"prompt": "a cat", "num_inference_steps": 2, "guidance_scale": 6.0, "output_type": "np"},
        ),
    },
    WIDE,
)


family(
    {
        "text_encoder": lambda: parts.qwen_vl().model.language_model,
        "tokenizer": parts.letters,
        "text_encoder_2": parts.t5,
        "tokenizer_2": parts.letters,
        "transformer": lambda: HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            patch_size=1,
            patch_size_t=1,
            text_embed_dim=16,
            text_embed_2_dim=32,
            image_embed_dim=12,
            rope_axes_dim=(2, 2, 4),
            target_size=16,
            task_type="t2v",
        ),
        "vae": lambda: AutoencoderKLHunyuanVideo15(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(16, 16),
            layers_per_block=1,
            spatial_compression_ratio=4,
            temporal_compression_ratio=2,
            downsample_match_channel=False,
            upsample_match_channel=False,
        ),
        "scheduler": flow,
        "guider": lambda: ClassifierFreeGuidance(guidance_scale=1.0),
    },
    {
        "HunyuanVideo15Pipeline": (
            {
                "prompt": 'a "cat"',
                "num_inference_steps": 2,
                "height": 16,
                "width": 16,
                "num_frames": 9,
                "output_type": "pt",
            },
        ),
    },
    WIDE,
)


ACE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 16,
}
family(  # keeps views of its condition encoder's weights while that is offloaded
    {
        "text_encoder": parts.qwen3,
        "tokenizer": parts.letters,
        "transformer": lambda: AceStepTransformer1DModel(
            **ACE, num_hidden_layers=2, in_channels=24, audio_acoustic_hidden_dim=8
        ),
        "condition_encoder": lambda: AceStepConditionEncoder(
            **ACE,
            text_hidden_dim=16,
            timbre_hidden_dim=8,
            num_lyric_encoder_hidden_layers=2,
            num_timbre_encoder_hidden_layers=2,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler,
        "vae": lambda: AutoencoderOobleck(
            encoder_hidden_size=8,
            downsampling_ratios=[2, 2],
            decoder_channels=8,
            decoder_input_channels=8,
            audio_channels=2,
            channel_multiples=[1, 2],
            sampling_rate=100,
        ),
    },
    {
        "AceStepPipeline": (
            {
                "prompt": "a cat",
                "lyrics": "la la",
                "audio_duration": 2.0,
                "num_inference_steps": 2,
                "guidance_scale": 3.0,
                "output_type": "pt",
            },
        ),
    },
    WIDE,
)
