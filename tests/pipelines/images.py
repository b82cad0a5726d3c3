"""UNet families: Stable Diffusion, SDXL, and what grew around them."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKLTemporalDecoder,
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    LCMScheduler,
    MotionAdapter,
    PriorTransformer,
    StableCascadeUNet,
    T2IAdapter,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
    VQModel,
)
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from pipelines import parts
from pipelines.pictures import embeds, mask, picture, tensor, video
from pipelines.registry import family


def ddim() -> Any:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def euler() -> Any:
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def adapter() -> Any:
    return T2IAdapter(in_channels=3, channels=[4, 8], num_res_blocks=2, downscale_factor=2)


def vision() -> Any:
    return parts.clip_vision()


def motion() -> Any:
    return MotionAdapter(
        block_out_channels=(4, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=4,
    )


def motion_unet() -> Any:
    return parts.unet(norm_num_groups=2, sample_size=8)


CROSS_FIRST: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SD = {
    "text_encoder": parts.clip_text,
    "tokenizer": parts.clip_tokenizer,
    "unet": parts.unet,
    "vae": parts.vae,
    "scheduler": ddim,
    "controlnet": parts.controlnet,
    "adapter": adapter,
    "motion_adapter": motion,
}
TEXT: dict[str, Any] = {
    "prompt": "a cat",
    "num_inference_steps": 2,
    "guidance_scale": 5.0,
    "output_type": "pt",
}
FROM_IMAGE = TEXT | {"image": picture, "strength": 0.9}
INPAINT = FROM_IMAGE | {"mask_image": mask}
SMALL = {"height": 32, "width": 32}

family(
    SD,
    {
        "StableDiffusionPipeline": (TEXT | SMALL,),
        "StableDiffusionImg2ImgPipeline": (FROM_IMAGE,),
        "StableDiffusionInpaintPipeline": (INPAINT | SMALL,),
        "StableDiffusionControlNetPipeline": (TEXT | {"image": tensor},),
        "StableDiffusionControlNetImg2ImgPipeline": (FROM_IMAGE | {"control_image": tensor},),
        "StableDiffusionControlNetInpaintPipeline": (INPAINT | {"control_image": tensor},),
        "StableDiffusionAdapterPipeline": (
            TEXT | {"image": tensor},
            {"unet": lambda: parts.unet(attention_head_dim=2, **CROSS_FIRST)},
        ),
        "StableDiffusionPAGPipeline": (TEXT,),
        "StableDiffusionInstructPix2PixPipeline": (
            TEXT | {"image": picture, "image_guidance_scale": 1.5},
            {"unet": lambda: parts.unet(inputs=8)},
        ),
        "StableDiffusionImageVariationPipeline": (
            {"image": picture, "num_inference_steps": 2, "output_type": "pt", **SMALL},
            {"image_encoder": vision, "feature_extractor": parts.clip_image_processor},
        ),
        "LatentConsistencyModelPipeline": (
            TEXT,
            {"unet": lambda: parts.unet(time_cond_proj_dim=8), "scheduler": LCMScheduler},
        ),
        "AnimateDiffPipeline": (TEXT | {"num_frames": 2, **SMALL}, {"unet": motion_unet}),
        "AnimateDiffVideoToVideoPipeline": (
            TEXT | {"video": lambda: video(2, 32), **SMALL},
            {"unet": motion_unet},
        ),
    },
)

SDXL = SD | {
    "text_encoder_2": lambda: parts.clip_text(projection=True, act="gelu"),
    "tokenizer_2": parts.clip_tokenizer,
    "unet": lambda: parts.unet(cross=64, **parts.XL),
    "controlnet": lambda: parts.controlnet(cross=64, **parts.XL),
    "scheduler": euler,
}

family(
    SDXL,
    {
        "StableDiffusionXLPipeline": (TEXT | SMALL,),
        "StableDiffusionXLImg2ImgPipeline": (FROM_IMAGE,),
        "StableDiffusionXLInpaintPipeline": (INPAINT | SMALL,),
        "StableDiffusionXLControlNetPipeline": (TEXT | {"image": tensor},),
        "StableDiffusionXLControlNetImg2ImgPipeline": (FROM_IMAGE | {"control_image": tensor},),
        "StableDiffusionXLControlNetInpaintPipeline": (INPAINT | {"control_image": tensor},),
        "StableDiffusionXLAdapterPipeline": (
            TEXT | {"image": tensor},
            {"unet": lambda: parts.unet(cross=64, **parts.XL, **CROSS_FIRST)},
        ),
        "StableDiffusionXLPAGPipeline": (TEXT | SMALL,),
        "StableDiffusionXLPAGImg2ImgPipeline": (FROM_IMAGE,),
        "StableDiffusionXLInstructPix2PixPipeline": (
            TEXT | {"image": picture, "image_guidance_scale": 1.5, **SMALL},
            {"unet": lambda: parts.unet(inputs=8, cross=64, **parts.XL)},
        ),
    },
)


def spatio_temporal() -> Any:
    return UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )


def temporal_vae() -> Any:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        latent_channels=4,
    )


def unet_3d() -> Any:
    return UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=2,
    )


family(
    {
        "unet": spatio_temporal,
        "vae": temporal_vae,
        "image_encoder": lambda: parts.clip_vision(size=224, patch=32),
        "feature_extractor": parts.clip_image_processor,
        "scheduler": lambda: EulerDiscreteScheduler(
            interpolation_type="linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
    },
    {
        "StableVideoDiffusionPipeline": (
            {"image": picture, "num_inference_steps": 2, "num_frames": 2, "output_type": "pt", **SMALL},
        ),
    },
)
family(
    SD | {"unet": unet_3d},
    {
        "TextToVideoSDPipeline": (TEXT | {"num_frames": 2, **SMALL},),
        "VideoToVideoSDPipeline": ({**TEXT, "video": lambda: video(2, 32), "strength": 0.9},),
    },
)


def cascade_prior() -> Any:
    return StableCascadeUNet(
        conditioning_dim=16,
        block_out_channels=(16, 16),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_image_in_channels=768,
        switch_level=(False,),
        clip_text_in_channels=32,
        clip_text_pooled_in_channels=32,
    )


def cascade_decoder() -> Any:
    plain = ("SDCascadeResBlock", "SDCascadeTimestepBlock")
    attention = (*plain, "SDCascadeAttnBlock")
    return StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=16,
        block_out_channels=(8, 8, 16, 16),
        num_attention_heads=(-1, -1, 1, 2),
        down_num_layers_per_block=(1, 1, 1, 1),
        up_num_layers_per_block=(1, 1, 1, 1),
        down_blocks_repeat_mappers=(1, 1, 1, 1),
        up_blocks_repeat_mappers=(1, 1, 1, 1),
        block_types_per_layer=(plain, plain, attention, attention),
        switch_level=None,
        clip_text_pooled_in_channels=32,
        dropout=(0.1, 0.1, 0.1, 0.1),
    )


def cascade_text() -> Any:
    return parts.clip_text(projection=True)


CASCADE = {
    "text_encoder": cascade_text,
    "tokenizer": parts.clip_tokenizer,
    "scheduler": DDPMWuerstchenScheduler,
    "decoder": cascade_decoder,
    "vqgan": lambda: PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=16),
    "prior": cascade_prior,
    "prior_prior": cascade_prior,
    "prior_text_encoder": cascade_text,
    "prior_tokenizer": parts.clip_tokenizer,
    "prior_scheduler": DDPMWuerstchenScheduler,
}
family(
    CASCADE,
    {
        "StableCascadePriorPipeline": ({**TEXT, "height": 128, "width": 128},),
        "StableCascadeDecoderPipeline": (
            {
                **TEXT,
                "guidance_scale": 2.0,
                "image_embeddings": lambda: embeds(1, 16, 4, 4),
            },
        ),
        "StableCascadeCombinedPipeline": (
            {
                "prompt": "a cat",
                "num_inference_steps": 2,
                "prior_num_inference_steps": 2,
                "output_type": "pt",
                "height": 128,
                "width": 128,
            },
        ),
    },
)


def kandinsky_unet(inputs: int = 4) -> Any:
    return UNet2DConditionModel(
        in_channels=inputs,
        out_channels=8,
        addition_embed_type="image",
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


def movq() -> Any:
    return VQModel(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        in_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        out_channels=3,
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        vq_embed_dim=4,
    )


def unclip() -> Any:
    return UnCLIPScheduler(
        variance_type="fixed_small_log",
        prediction_type="sample",
        num_train_timesteps=1000,
        clip_sample_range=10.0,
    )


def prior() -> Any:
    return PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1)


PRIOR = {
    "prior": prior,
    "image_encoder": vision,
    "text_encoder": lambda: parts.clip_text(projection=True),
    "tokenizer": parts.clip_tokenizer,
    "scheduler": unclip,
    "image_processor": parts.clip_image_processor,
}
KANDINSKY = {
    "unet": kandinsky_unet,
    "movq": movq,
    "scheduler": ddim,
    **{f"prior_{key}": value for key, value in PRIOR.items()},
}
STEPS = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "pt"}
HINTS = {"image_embeds": lambda: embeds(1, 32), "negative_image_embeds": lambda: embeds(1, 32).neg()}
family(PRIOR, {"KandinskyV22PriorPipeline": ({**STEPS, "prompt": "a cat"},)})
family(
    KANDINSKY,
    {
        "KandinskyV22Pipeline": ({**STEPS, **SMALL, **HINTS},),
        "KandinskyV22Img2ImgPipeline": ({**STEPS, **SMALL, **HINTS, "image": picture, "strength": 0.9},),
        "KandinskyV22InpaintPipeline": (
            {**STEPS, **SMALL, **HINTS, "image": picture, "mask_image": mask},
            {"unet": lambda: kandinsky_unet(9)},
        ),
        "KandinskyV22CombinedPipeline": (
            {**STEPS, **SMALL, "prompt": "a cat", "prior_num_inference_steps": 2},
        ),
        "KandinskyV22Img2ImgCombinedPipeline": (
            {
                **STEPS,
                **SMALL,
                "prompt": "a cat",
                "prior_num_inference_steps": 2,
                "image": picture,
                "strength": 0.9,
            },
        ),
    },
)


def flat_unet() -> Any:
    return UNet2DModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )


family(
    {"unet": flat_unet, "scheduler": DDPMScheduler},
    {
        "DDPMPipeline": ({"num_inference_steps": 2, "output_type": "np"},),
        "DDIMPipeline": ({"num_inference_steps": 2, "output_type": "np"}, {"scheduler": DDIMScheduler}),
        "ConsistencyModelPipeline": (
            {"num_inference_steps": 1, "output_type": "pt"},
            {"scheduler": lambda: CMStochasticIterativeScheduler(num_train_timesteps=40)},
        ),
    },
)
family(
    {
        "transformer": lambda: DiTTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=4,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_zero",
            norm_elementwise_affine=False,
        ),
        "vae": parts.vae,
        "scheduler": DDIMScheduler,
    },
    {"DiTPipeline": ({"class_labels": lambda: [1], "num_inference_steps": 2, "output_type": "np"},)},
)
family(
    {
        "vqvae": parts.vae,
        "bert": parts.clip_text,
        "tokenizer": parts.clip_tokenizer,
        "unet": parts.unet,
        "scheduler": ddim,
    },
    {"LDMTextToImagePipeline": ({**TEXT, "output_type": "np", **SMALL},)},
)
family(
    SD
    | {
        "prior_tokenizer": parts.clip_tokenizer,
        "prior_text_encoder": lambda: parts.clip_text(projection=True),
        "prior": prior,
        "prior_scheduler": lambda: DDPMScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        "image_normalizer": lambda: StableUnCLIPImageNormalizer(embedding_dim=32),
        "image_noising_scheduler": DDPMScheduler,
        "unet": lambda: parts.unet(class_embed_type="projection", projection_class_embeddings_input_dim=64),
    },
    {
        "StableUnCLIPPipeline": (
            {
                "prompt": "a cat",
                "num_inference_steps": 2,
                "prior_num_inference_steps": 2,
                "output_type": "pt",
            },
        ),
    },
)
