"""Transformer families for pictures: SD 3, Flux, Qwen-Image, PixArt and their kin."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKLQwenImage,
    ChromaTransformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    Lumina2Transformer2DModel,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from transformers import BertConfig, BertModel

from pipelines import parts
from pipelines.images import FROM_IMAGE, INPAINT, SMALL, TEXT
from pipelines.pictures import mask, picture, tensor
from pipelines.registry import family


def flow() -> Any:
    return FlowMatchEulerDiscreteScheduler()


def flux(inputs: int = 16, out: int | None = None) -> Any:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=inputs,
        out_channels=out,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )


def flux_controlnet() -> Any:
    return FluxControlNetModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )


FLUX = {
    "text_encoder": parts.clip_text,
    "text_encoder_2": parts.t5,
    "tokenizer": parts.clip_tokenizer,
    "tokenizer_2": parts.letters,
    "transformer": flux,
    "controlnet": flux_controlnet,
    "vae": lambda: parts.flat_vae(4),
    "scheduler": flow,
}
SHORT = {"max_sequence_length": 16}
FLOW = TEXT | SMALL | SHORT
FLOW_IMAGE = FROM_IMAGE | SMALL | SHORT
FLOW_INPAINT = INPAINT | SMALL | SHORT
KONTEXT = {k: v for k, v in FLOW_IMAGE.items() if k != "strength"} | {"max_area": 1024, "_auto_resize": False}
CONTROL = {"transformer": lambda: flux(32, 16)}
family(
    FLUX,
    {
        "FluxPipeline": (FLOW,),
        "FluxPipeline:cfg": (FLOW | {"negative_prompt": "bad", "true_cfg_scale": 2.0},),
        "FluxImg2ImgPipeline": (FLOW_IMAGE,),
        "FluxInpaintPipeline": (FLOW_INPAINT,),
        "FluxKontextPipeline": (KONTEXT,),
        "FluxKontextInpaintPipeline": (KONTEXT | {"mask_image": mask, "strength": 0.9},),
        "FluxControlPipeline": (FLOW | {"control_image": picture}, CONTROL),
        "FluxControlImg2ImgPipeline": (FLOW_IMAGE | {"control_image": picture}, CONTROL),
        "FluxControlInpaintPipeline": (FLOW_INPAINT | {"control_image": picture}, CONTROL),
        "FluxControlNetPipeline": (FLOW | {"control_image": tensor},),
        "FluxControlNetImg2ImgPipeline": (FLOW_IMAGE | {"control_image": tensor},),
        "FluxControlNetInpaintPipeline": (FLOW_INPAINT | {"control_image": tensor},),
        "FluxFillPipeline": (
            FLOW | {"image": tensor, "mask_image": lambda: tensor(32, 1)},
            {"transformer": lambda: flux(36, 16)},
        ),
    },
)


def chroma() -> Any:
    return ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )


family(
    {
        "text_encoder": parts.t5,
        "tokenizer": parts.letters,
        "transformer": chroma,
        "vae": lambda: parts.flat_vae(4),
        "scheduler": flow,
    },
    {"ChromaPipeline": (FLOW,), "ChromaImg2ImgPipeline": (FLOW_IMAGE,)},
)


def sd3(channels: int = 4) -> Any:
    return SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=channels,
    )


def sd3_controlnet() -> Any:
    return SD3ControlNetModel(
        sample_size=32,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    )


def clip_projection() -> Any:
    return parts.clip_text(projection=True)


SD3 = {
    "text_encoder": clip_projection,
    "text_encoder_2": lambda: parts.clip_text(projection=True, layers=4),
    "text_encoder_3": parts.t5,
    "tokenizer": parts.clip_tokenizer,
    "tokenizer_2": parts.clip_tokenizer,
    "tokenizer_3": parts.letters,
    "transformer": sd3,
    "controlnet": sd3_controlnet,
    "vae": lambda: parts.flat_vae(4),
    "scheduler": flow,
}
family(
    SD3,
    {
        "StableDiffusion3Pipeline": (FLOW,),
        "StableDiffusion3Img2ImgPipeline": (FLOW_IMAGE,),
        "StableDiffusion3InpaintPipeline": (
            FLOW_INPAINT,
            {"transformer": lambda: sd3(16), "vae": lambda: parts.flat_vae(16)},
        ),
        "StableDiffusion3ControlNetPipeline": (FLOW | {"control_image": tensor},),
        "StableDiffusion3PAGPipeline": (FLOW, {}, {"pag_applied_layers": ["blocks.1"]}),
    },
)


def qwen_transformer() -> Any:
    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )


def qwen_vae() -> Any:
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


QWEN = {
    "text_encoder": parts.qwen_vl,
    "tokenizer": parts.letters,
    "transformer": qwen_transformer,
    "vae": qwen_vae,
    "scheduler": flow,
}
QWEN_TEXT = {k: v for k, v in FLOW.items() if k != "guidance_scale"} | {
    "negative_prompt": "bad",
    "true_cfg_scale": 2.0,
}
family(
    QWEN,
    {
        "QwenImagePipeline": (QWEN_TEXT,),
        "QwenImageImg2ImgPipeline": (QWEN_TEXT | {"image": picture, "strength": 0.9},),
        "QwenImageInpaintPipeline": (QWEN_TEXT | {"image": picture, "mask_image": mask, "strength": 0.9},),
    },
)


def pixart() -> Any:
    return PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
    )


T5_PICTURE = {"text_encoder": parts.t5, "tokenizer": parts.letters, "vae": parts.vae}
BINNED = TEXT | SMALL | {"use_resolution_binning": False}
family(
    T5_PICTURE | {"transformer": pixart, "scheduler": DDIMScheduler},
    {
        "PixArtAlphaPipeline": (BINNED | SHORT,),
        "PixArtSigmaPipeline": (BINNED | SHORT,),
        "PixArtSigmaPAGPipeline": (BINNED | SHORT, {}, {"pag_applied_layers": ["blocks.1"]}),
    },
)
family(
    T5_PICTURE
    | {
        "text_encoder": lambda: parts.t5(umt5=True),
        "transformer": lambda: AuraFlowTransformer2DModel(
            sample_size=32,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            out_channels=4,
            pos_embed_max_size=256,
        ),
        "scheduler": flow,
    },
    {"AuraFlowPipeline": (FLOW,)},
)


def bert() -> Any:
    return BertModel(
        BertConfig(
            vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37
        )
    )


family(
    {
        "text_encoder": bert,
        "tokenizer": lambda: parts.letters((), 77),
        "text_encoder_2": parts.t5,
        "tokenizer_2": lambda: parts.letters((), 256),
        "transformer": lambda: HunyuanDiT2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            in_channels=4,
            cross_attention_dim=32,
            cross_attention_dim_t5=32,
            pooled_projection_dim=16,
            hidden_size=24,
            activation_fn="gelu-approximate",
        ),
        "vae": lambda: parts.vae(blocks=(4, 4, 4, 4)),
        "scheduler": DDPMScheduler,
    },
    {"HunyuanDiTPipeline": (BINNED,)},
)
GEMMA = {"text_encoder": parts.gemma2, "tokenizer": parts.letters, "scheduler": flow}
family(
    GEMMA
    | {
        "transformer": lambda: Lumina2Transformer2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=4,
            hidden_size=8,
            num_layers=2,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            norm_eps=1e-5,
            scaling_factor=1.0,
            axes_dim_rope=[4, 2, 2],
            cap_feat_dim=8,
        ),
        "vae": lambda: parts.flat_vae(4),
    },
    {"Lumina2Pipeline": (FLOW,)},
)


def dc_vae() -> Any:
    return AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def sana() -> Any:
    return SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )


SANA = BINNED | SHORT | {"complex_human_instruction": None}
family(GEMMA | {"transformer": sana, "vae": dc_vae}, {"SanaPipeline": (SANA,)})
family(
    GEMMA | {"transformer": sana, "vae": dc_vae},
    {"SanaPAGPipeline": (SANA, {}, {"pag_applied_layers": ["blocks.0"]})},
)
family(
    {
        "text_encoder": parts.qwen3,
        "tokenizer": parts.letters,
        "transformer": lambda: ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            qk_norm=True,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        ),
        "vae": lambda: parts.vae(shift_factor=0.1),
        "scheduler": flow,
    },
    {"ZImagePipeline": (FLOW,), "ZImageImg2ImgPipeline": (FLOW_IMAGE,)},
)
