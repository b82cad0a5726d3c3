"""More UNet families: what stands beside Stable Diffusion, SDXL and Kandinsky, and pixel models."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ControlNetUnionModel,
    ControlNetXSAdapter,
    DDPMScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    Kandinsky3UNet,
    LCMScheduler,
    PNDMScheduler,
    PriorTransformer,
    RePaintScheduler,
    UNet2DConditionModel,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from diffusers.pipelines.shap_e.renderer import ShapERenderer

from pipelines import parts
from pipelines.images import (
    FROM_IMAGE,
    HINTS,
    INPAINT,
    KANDINSKY,
    PRIOR,
    SD,
    SDXL,
    SMALL,
    STEPS,
    TEXT,
    flat_unet,
    kandinsky_unet,
    motion_unet,
    movq,
    vision,
)
from pipelines.pictures import embeds, mask, picture, tensor, video
from pipelines.registry import WIDE, family

VISION = {"image_encoder": vision, "feature_extractor": parts.clip_image_processor}
PAG: dict[str, Any] = {"pag_applied_layers": ["mid"]}


def lcm_unet() -> Any:
    return parts.unet(time_cond_proj_dim=8)


family(
    SD,
    {
        "StableDiffusionPAGImg2ImgPipeline": (FROM_IMAGE, {}, PAG),
        "StableDiffusionPAGInpaintPipeline": (INPAINT | SMALL, {}, PAG),
        "StableDiffusionControlNetPAGPipeline": (TEXT | {"image": tensor}, {}, PAG),
        "StableDiffusionControlNetPAGInpaintPipeline": (INPAINT | {"control_image": tensor}, {}, PAG),
        "LatentConsistencyModelImg2ImgPipeline": (
            FROM_IMAGE,
            {"unet": lcm_unet, "scheduler": LCMScheduler},
        ),
        "StableDiffusionPanoramaPipeline": (TEXT | SMALL,),
        "StableDiffusionLDM3DPipeline": (
            TEXT | SMALL | {"output_type": "np"},
            {"vae": lambda: _six_channel_vae()},
        ),
        "StableDiffusionSAGPipeline": (TEXT | {"sag_scale": 1.0} | SMALL,),
        "StableDiffusionDiffEditPipeline": (
            {
                "prompt": "a cat",
                "mask_image": lambda: mask_tensor(),
                "image_latents": lambda: embeds(1, 1, 4, 16, 16).repeat(1, 2, 1, 1, 1),
                "num_inference_steps": 2,
                "inpaint_strength": 1.0,
                "output_type": "np",
            },
            {"inverse_scheduler": lambda: _inverse()},
        ),
        "CycleDiffusionPipeline": (
            FROM_IMAGE
            | {
                "source_prompt": "a dog",
                "eta": 0.5,
                "source_guidance_scale": 3.0,
                "strength": 0.5,
                "num_inference_steps": 4,
            },
        ),
        "StableDiffusionInpaintPipelineLegacy": (
            INPAINT | {"output_type": "np"},
            {"scheduler": lambda: PNDMScheduler(skip_prk_steps=True)},
        ),
        "StableDiffusionModelEditingPipeline": (
            TEXT | SMALL,
            {},
            {"with_to_k": True, "with_augs": []},
        ),
        "StableDiffusionPipelineSafe": (
            TEXT | SMALL | {"output_type": "np"},
            {},
            {"safety_concept": "bad"},
        ),
        "SemanticStableDiffusionPipeline": (TEXT | SMALL,),
        "StableDiffusionControlNetXSPipeline": (
            TEXT | {"image": tensor},
            {"controlnet": lambda: _xs(32), "unet": lambda: _for_xs()},
        ),
        "AnimateDiffControlNetPipeline": (
            TEXT | {"num_frames": 2, "conditioning_frames": lambda: video(2, 32), **SMALL},
            {"unet": motion_unet},
        ),
        "AnimateDiffVideoToVideoControlNetPipeline": (
            TEXT | {"video": lambda: video(2, 32), "conditioning_frames": lambda: video(2, 32), **SMALL},
            {"unet": motion_unet},
        ),
        "AnimateDiffPAGPipeline": (
            TEXT | {"num_frames": 2, **SMALL},
            {"unet": motion_unet},
            {"pag_applied_layers": ["mid.*attn1"]},
        ),
        "PIAPipeline": (
            TEXT | {"image": picture, "num_frames": 2, **SMALL},
            {"unet": lambda: parts.unet(inputs=9, norm_num_groups=2, sample_size=8)},
        ),
        "StableDiffusionUpscalePipeline": (
            TEXT | {"image": lambda: tensor(16), "noise_level": 5, "output_type": "np"},
            {
                "unet": lambda: parts.unet(inputs=7, num_class_embeds=250),
                "low_res_scheduler": DDPMScheduler,
            },
            {"max_noise_level": 250},
        ),
        "StableDiffusionLatentUpscalePipeline": (
            {
                "prompt": "a cat",
                "image": lambda: embeds(1, 4, 16, 16),
                "num_inference_steps": 2,
                "output_type": "np",
            },
            {
                "unet": lambda: upscale_unet(),
                "scheduler": lambda: EulerDiscreteScheduler(prediction_type="sample"),
            },
        ),
        "StableUnCLIPImg2ImgPipeline": (
            {"image": picture, "prompt": "a cat", "num_inference_steps": 2, "output_type": "np"},
            VISION
            | {
                "image_normalizer": lambda: normalizer(),
                "image_noising_scheduler": DDPMScheduler,
                "unet": lambda: parts.unet(
                    class_embed_type="projection", projection_class_embeddings_input_dim=64
                ),
            },
        ),
        "MarigoldDepthPipeline": (
            {"image": tensor, "num_inference_steps": 1, "processing_resolution": 0},
            {"unet": lambda: parts.unet(inputs=8), "scheduler": LCMScheduler},
            {"prediction_type": "depth"},
        ),
        "MarigoldNormalsPipeline": (
            {"image": tensor, "num_inference_steps": 1, "processing_resolution": 0},
            {"unet": lambda: parts.unet(inputs=8), "scheduler": LCMScheduler},
            {"prediction_type": "normals"},
        ),
        "MarigoldIntrinsicsPipeline": (
            {"image": tensor, "num_inference_steps": 1, "processing_resolution": 0},
            {"unet": lambda: parts.unet(inputs=12, out_channels=8), "scheduler": LCMScheduler},
            {"prediction_type": "intrinsics", "target_properties": {"target_names": ["a", "b"]}},
        ),
    },
    WIDE,
)


def mask_tensor() -> Any:
    made = tensor(16, 1)[0]
    return (made > 0.5).float()


def _inverse() -> Any:
    from diffusers import DDIMInverseScheduler

    return DDIMInverseScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_zero=False
    )


def _six_channel_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8),
        in_channels=6,
        out_channels=6,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )


def _for_xs(**more: Any) -> Any:
    """The adapter has two layers in each block."""
    return parts.unet(sample_size=16, norm_num_groups=4, layers_per_block=2, **more)


def _xs(cross: int, **more: Any) -> Any:
    unet = _for_xs(cross=cross, **more)
    return ControlNetXSAdapter.from_unet(unet, size_ratio=1, conditioning_embedding_out_channels=(4, 8))


def normalizer() -> Any:
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    return StableUnCLIPImageNormalizer(embedding_dim=32)


def upscale_unet() -> Any:
    return UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=[32, 32, 64, 64],
        time_cond_proj_dim=160,
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=32,
        down_block_types=(
            "KDownBlock2D",
            "KCrossAttnDownBlock2D",
            "KCrossAttnDownBlock2D",
            "KCrossAttnDownBlock2D",
        ),
        in_channels=8,
        mid_block_type=None,
        only_cross_attention=False,
        out_channels=5,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        up_block_types=("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
    )


def union() -> Any:
    return ControlNetUnionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=64,
        conditioning_embedding_out_channels=(4, 8),
        norm_num_groups=1,
        num_control_type=6,
        num_trans_channel=4,
        num_trans_head=1,
        num_proj_channel=4,
        **parts.XL,
    )


UNION = {"controlnet": union}
MODE: dict[str, Any] = {"control_mode": 0}
family(
    SDXL,
    {
        "StableDiffusionXLPAGInpaintPipeline": (INPAINT | SMALL, {}, PAG),
        "StableDiffusionXLControlNetPAGPipeline": (TEXT | {"image": tensor}, {}, PAG),
        "StableDiffusionXLControlNetPAGImg2ImgPipeline": (FROM_IMAGE | {"control_image": tensor}, {}, PAG),
        "StableDiffusionXLControlNetUnionPipeline": (TEXT | SMALL | {"control_image": tensor} | MODE, UNION),
        "StableDiffusionXLControlNetUnionImg2ImgPipeline": (
            FROM_IMAGE | {"control_image": tensor} | MODE,
            UNION,
        ),
        "StableDiffusionXLControlNetUnionInpaintPipeline": (
            INPAINT | {"control_image": tensor} | MODE,
            UNION,
        ),
        "StableDiffusionXLControlNetXSPipeline": (
            TEXT | {"image": tensor},
            {
                "unet": lambda: _for_xs(cross=64, **parts.XL),
                "controlnet": lambda: _xs(64, **parts.XL),
            },
        ),
        "AnimateDiffSDXLPipeline": (
            TEXT | {"num_frames": 2, **SMALL},
            {"unet": lambda: parts.unet(cross=64, norm_num_groups=2, sample_size=8, **parts.XL)},
        ),
        "TextToVideoZeroSDXLPipeline": (
            TEXT
            | {"video_length": 2, "num_inference_steps": 3, "t0": 1, "t1": 2, "output_type": "np", **SMALL},
        ),
    },
    WIDE,
)


def hint_unet(inputs: int = 8) -> Any:
    return UNet2DConditionModel(
        in_channels=inputs,
        out_channels=8,
        addition_embed_type="image_hint",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=32,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )


def deep_movq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=[32, 32, 64, 64],
        down_block_types=["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"],
        in_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        out_channels=3,
        up_block_types=["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3,
        vq_embed_dim=4,
    )


family(
    KANDINSKY,
    {
        "KandinskyV22ControlnetPipeline": (
            {**STEPS, "height": 64, "width": 64, **HINTS, "hint": lambda: tensor(64)},
            {"unet": hint_unet, "movq": deep_movq},
        ),
        "KandinskyV22ControlnetImg2ImgPipeline": (
            {
                **STEPS,
                "height": 64,
                "width": 64,
                **HINTS,
                "hint": lambda: tensor(64),
                "image": lambda: picture(64),
                "strength": 0.9,
            },
            {"unet": hint_unet, "movq": deep_movq},
        ),
        "KandinskyV22InpaintCombinedPipeline": (
            {
                **STEPS,
                **SMALL,
                "prompt": "a cat",
                "prior_num_inference_steps": 2,
                "image": picture,
                "mask_image": mask,
            },
            {"unet": lambda: kandinsky_unet(9)},
        ),
    },
    WIDE,
)
family(
    PRIOR,
    {
        "KandinskyV22PriorEmb2EmbPipeline": (
            {**STEPS, "prompt": "a cat", "image": picture, "strength": 0.9},
        ),
        "KandinskyPriorPipeline": ({**STEPS, "prompt": "a cat"},),
    },
    WIDE,
)


def multilingual() -> Any:
    made = MultilingualCLIP(
        MCLIPConfig(
            numDims=32,
            transformerDimensions=32,
            hidden_size=32,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=128,
        )
    )
    for weight in made.parameters():  # its own constructor leaves them as they are found
        torch.nn.init.normal_(weight, std=0.05)
    return made


def text_image_unet(inputs: int = 4) -> Any:
    return UNet2DConditionModel(
        in_channels=inputs,
        out_channels=8,
        addition_embed_type="text_image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_image_proj",
        cross_attention_dim=32,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )


KANDINSKY_1 = KANDINSKY | {
    "text_encoder": multilingual,
    "tokenizer": parts.closed_letters,
    "unet": text_image_unet,
}
PROMPTED = {**STEPS, **SMALL, "prompt": "a cat"}
COMBINED = {**PROMPTED, "prior_num_inference_steps": 2}
family(
    KANDINSKY_1,
    {
        "KandinskyPipeline": ({**PROMPTED, **HINTS},),
        "KandinskyImg2ImgPipeline": ({**PROMPTED, **HINTS, "image": picture, "strength": 0.9},),
        "KandinskyInpaintPipeline": (
            {**PROMPTED, **HINTS, "image": picture, "mask_image": mask},
            {"unet": lambda: text_image_unet(9)},
        ),
        "KandinskyCombinedPipeline": (COMBINED,),
        "KandinskyImg2ImgCombinedPipeline": (COMBINED | {"image": picture, "strength": 0.9},),
        "KandinskyInpaintCombinedPipeline": (
            COMBINED | {"image": picture, "mask_image": mask},
            {"unet": lambda: text_image_unet(9)},
        ),
    },
    WIDE,
)
family(
    {
        "unet": lambda: Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=4,
            groups=2,
            attention_head_dim=4,
            layers_per_block=3,
            block_out_channels=(32, 64),
            cross_attention_dim=4,
            encoder_hid_dim=32,
        ),
        "movq": movq,
        "scheduler": DDPMScheduler,
        "text_encoder": parts.t5,
        "tokenizer": lambda: parts.letters((), 128),
    },
    {
        "Kandinsky3Pipeline": (PROMPTED,),
        "Kandinsky3Img2ImgPipeline": (
            {"prompt": "a cat", "image": lambda: picture(64), "num_inference_steps": 4, "output_type": "np"},
        ),
    },
    WIDE,
)


def shape_prior(**more: Any) -> Any:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=16,
        num_embeddings=32,
        embedding_proj_dim=16,
        time_embed_dim=64,
        num_layers=1,
        clip_embed_dim=32,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
        **more,
    )


def plain_vision() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=16,
            image_size=32,
            projection_dim=16,
            intermediate_size=24,
            num_attention_heads=2,
            num_hidden_layers=2,
            patch_size=4,
        )
    )


family(
    {
        "prior": shape_prior,
        "text_encoder": lambda: parts.clip_text(projection=True, hidden=16),
        "tokenizer": parts.clip_tokenizer,
        "shap_e_renderer": lambda: ShapERenderer(
            param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)),
            d_latent=16,
            d_hidden=8,
            n_output=12,
            background=(0.1, 0.1, 0.1),
        ),
        "scheduler": lambda: HeunDiscreteScheduler(
            beta_schedule="exp",
            num_train_timesteps=1024,
            prediction_type="sample",
            use_karras_sigmas=True,
            clip_sample=True,
            clip_sample_range=1.0,
        ),
        "image_encoder": plain_vision,
        "image_processor": parts.clip_image_processor,
    },
    {
        "ShapEPipeline": (
            {"prompt": "a cat", "num_inference_steps": 1, "frame_size": 32, "output_type": "latent"},
        ),
        "ShapEImg2ImgPipeline": (
            {"image": tensor, "num_inference_steps": 1, "frame_size": 32, "output_type": "latent"},
            {"prior": lambda: shape_prior(embedding_proj_norm_type="layer")},
        ),
    },
    WIDE,
)


def pixel_unet(inputs: int = 3, **more: Any) -> Any:
    return UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=inputs,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        **more,
    )


def upsampler() -> Any:
    return pixel_unet(
        6,
        class_embed_type="timestep",
        mid_block_scale_factor=1.414,
        time_embedding_act_fn="gelu",
        time_embedding_dim=32,
    )


def watermarker() -> Any:
    from diffusers.pipelines.deepfloyd_if import IFWatermarker

    return IFWatermarker()


def pixels() -> Any:
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        beta_start=0.0001,
        beta_end=0.02,
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.0,
        prediction_type="epsilon",
        variance_type="learned_range",
    )


IF_TEXT = {"prompt": "a cat", "num_inference_steps": 2, "output_type": "np", "clean_caption": False}
UPPER = {"unet": upsampler}
family(
    {
        "text_encoder": parts.t5,
        "tokenizer": lambda: parts.letters((), 77),
        "unet": pixel_unet,
        "scheduler": pixels,
        "image_noising_scheduler": pixels,
        "watermarker": watermarker,
    },
    {
        "IFPipeline": (IF_TEXT | SMALL,),
        "IFImg2ImgPipeline": (IF_TEXT | {"image": tensor, "strength": 0.9},),
        "IFInpaintingPipeline": (IF_TEXT | {"image": tensor, "mask_image": mask, "strength": 0.9},),
        "IFSuperResolutionPipeline": (IF_TEXT | {"image": tensor}, UPPER),
        "IFImg2ImgSuperResolutionPipeline": (
            IF_TEXT | {"image": tensor, "original_image": tensor, "strength": 0.9},
            UPPER,
        ),
        "IFInpaintingSuperResolutionPipeline": (
            IF_TEXT | {"image": tensor, "original_image": tensor, "mask_image": mask, "strength": 0.9},
            UPPER,
        ),
    },
    WIDE,
)
family(
    {"unet": flat_unet, "scheduler": RePaintScheduler},
    {
        "RePaintPipeline": (
            {
                "image": picture,
                "mask_image": mask,
                "num_inference_steps": 3,
                "eta": 0.0,
                "jump_length": 2,
                "jump_n_sample": 2,
                "output_type": "np",
            },
        ),
    },
    WIDE,
)
