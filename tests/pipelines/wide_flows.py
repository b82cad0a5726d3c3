"""More transformer families for pictures."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AmusedScheduler,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanImage,
    CogVideoXDDIMScheduler,
    CogView3PlusTransformer2DModel,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    HunyuanDiT2DControlNetModel,
    HunyuanDiT2DModel,
    HunyuanImageTransformer2DModel,
    LongCatImageTransformer2DModel,
    LuminaNextDiT2DModel,
    OvisImageTransformer2DModel,
    QwenImageControlNetModel,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3ControlNetModel,
    UVit2DModel,
    VQModel,
    ZImageControlNetModel,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from transformers import (
    GlmConfig,
    GlmForCausalLM,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from pipelines import parts
from pipelines.flows import (
    BINNED,
    FLOW,
    FLOW_IMAGE,
    FLOW_INPAINT,
    GEMMA,
    QWEN,
    QWEN_TEXT,
    SANA,
    SD3,
    SHORT,
    T5_PICTURE,
    bert,
    clip_projection,
    dc_vae,
    flow,
    sana,
    sd3,
)
from pipelines.images import SMALL, TEXT
from pipelines.pictures import mask, picture, tensor
from pipelines.registry import WIDE, family

family(
    SD3,
    {
        "StableDiffusion3PAGImg2ImgPipeline": (FLOW_IMAGE, {}, {"pag_applied_layers": ["blocks.1"]}),
        "StableDiffusion3ControlNetInpaintingPipeline": (
            FLOW | {"control_image": tensor, "control_mask": lambda: tensor(32, 1)},
            {
                "transformer": lambda: sd3(8),
                "vae": lambda: parts.flat_vae(8),
                "controlnet": lambda: SD3ControlNetModel(
                    sample_size=32,
                    patch_size=1,
                    in_channels=8,
                    num_layers=1,
                    attention_head_dim=8,
                    num_attention_heads=4,
                    caption_projection_dim=32,
                    joint_attention_dim=32,
                    pooled_projection_dim=64,
                    out_channels=8,
                    extra_conditioning_channels=1,
                ),
            },
        ),
    },
    WIDE,
)


def qwen_controlnet(extra: int = 0) -> Any:
    return QwenImageControlNetModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        extra_condition_channels=extra,
    )


family(
    QWEN | {"controlnet": qwen_controlnet},
    {
        "QwenImageControlNetPipeline": (QWEN_TEXT | {"control_image": tensor},),
        "QwenImageControlNetInpaintPipeline": (
            QWEN_TEXT | {"control_image": tensor, "control_mask": lambda: tensor(32, 1)},
            {"controlnet": lambda: qwen_controlnet(4)},
        ),
    },
    WIDE,
)
DIT: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "in_channels": 4,
    "cross_attention_dim": 32,
    "cross_attention_dim_t5": 32,
    "pooled_projection_dim": 16,
    "hidden_size": 24,
    "activation_fn": "gelu-approximate",
}


def ddpm() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler()


family(
    {
        "text_encoder": bert,
        "tokenizer": lambda: parts.letters((), 77),
        "text_encoder_2": parts.t5,
        "tokenizer_2": lambda: parts.letters((), 256),
        "transformer": lambda: HunyuanDiT2DModel(num_layers=4, **DIT),
        "controlnet": lambda: HunyuanDiT2DControlNetModel(transformer_num_layers=4, **DIT),
        "vae": lambda: parts.vae(blocks=(4, 4, 4, 4)),
        "scheduler": ddpm,
    },
    {
        "HunyuanDiTPAGPipeline": (BINNED, {}, {"pag_applied_layers": ["blocks.1"]}),
        "HunyuanDiTControlNetPipeline": (BINNED | {"control_image": tensor},),
    },
    WIDE,
)
family(
    T5_PICTURE
    | {
        "transformer": lambda: CogView3PlusTransformer2DModel(
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=2,
            pos_embed_max_size=8,
            sample_size=8,
        ),
        "scheduler": CogVideoXDDIMScheduler,
    },
    {"CogView3PlusPipeline": (TEXT | SHORT | {"height": 16, "width": 16},)},
    WIDE,
)


def glm() -> Any:
    return GlmForCausalLM(
        GlmConfig(
            vocab_size=128,
            hidden_size=32,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            pad_token_id=0,
        )
    )


def cogview4(inputs: int = 4) -> Any:
    return CogView4Transformer2DModel(
        patch_size=2,
        in_channels=inputs,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )


family(
    {
        "text_encoder": glm,
        "tokenizer": parts.letters,
        "transformer": cogview4,
        "vae": parts.vae,
        "scheduler": lambda: FlowMatchEulerDiscreteScheduler(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    },
    {
        "CogView4Pipeline": (FLOW | {"negative_prompt": "bad"},),
        "CogView4ControlPipeline": (
            FLOW | {"negative_prompt": "bad", "control_image": tensor},
            {"transformer": lambda: cogview4(8)},
        ),
    },
    WIDE,
)
family(
    {
        "text_encoder": lambda: qwen3(32),
        "tokenizer": parts.letters,
        "transformer": lambda: OvisImageTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
        "vae": lambda: parts.flat_vae(1),
        "scheduler": flow,
    },
    {"OvisImagePipeline": (FLOW,)},
    WIDE,
)


def qwen3(hidden: int) -> Any:
    return parts.qwen3(hidden)


family(
    GEMMA
    | {
        "transformer": lambda: LuminaNextDiT2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=2,
            multiple_of=16,
            norm_eps=1e-5,
            learn_sigma=True,
            qk_norm=True,
            cross_attention_dim=8,
            scaling_factor=1.0,
        ),
        "vae": parts.vae,
    },
    {"LuminaPipeline": (FLOW, {"tokenizer": parts.closed_letters})},
    WIDE,
)
SPRINT = {
    "transformer": lambda: SanaTransformer2DModel(
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
        qk_norm="rms_norm_across_heads",
        guidance_embeds=True,
    ),
    "scheduler": SCMScheduler,
}
family(
    GEMMA
    | {
        "transformer": sana,
        "vae": dc_vae,
        "controlnet": lambda: SanaControlNetModel(
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
        ),
    },
    {
        "SanaControlNetPipeline": (SANA | {"control_image": tensor},),
        "SanaSprintPipeline": (SANA, SPRINT),
        "SanaSprintImg2ImgPipeline": (SANA | {"image": tensor, "strength": 0.5}, SPRINT),
    },
    WIDE,
)


def siglip() -> Any:
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
    )


family(
    {
        "image_encoder": siglip,
        "feature_extractor": lambda: SiglipImageProcessor(size={"height": 32, "width": 32}),
        "image_embedder": lambda: ReduxImageEncoder(redux_dim=32, txt_in_features=16),
        "text_encoder": parts.clip_text,
        "text_encoder_2": lambda: parts.t5(16),
        "tokenizer": parts.clip_tokenizer,
        "tokenizer_2": parts.letters,
    },
    {"FluxPriorReduxPipeline": ({"image": picture, "prompt": "a cat", "generator": None},)},
    WIDE,
)
family(
    {
        "text_encoder": clip_projection,
        "tokenizer": parts.clip_tokenizer,
        "transformer": lambda: UVit2DModel(
            hidden_size=8,
            use_bias=False,
            hidden_dropout=0.0,
            cond_embed_dim=32,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=32,
            vocab_size=32,
            codebook_size=8,
            in_channels=8,
            block_out_channels=8,
            num_res_blocks=1,
            downsample=True,
            upsample=True,
            block_num_heads=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            attention_dropout=0.0,
            intermediate_size=8,
            layer_norm_eps=1e-6,
            ln_elementwise_affine=True,
        ),
        "vqvae": lambda: VQModel(
            act_fn="silu",
            block_out_channels=[8],
            down_block_types=["DownEncoderBlock2D"],
            in_channels=3,
            latent_channels=8,
            layers_per_block=1,
            norm_num_groups=8,
            num_vq_embeddings=8,
            out_channels=3,
            sample_size=8,
            up_block_types=["UpDecoderBlock2D"],
            mid_block_add_attention=False,
            lookup_from_codebook=True,
        ),
        "scheduler": lambda: AmusedScheduler(mask_token_id=31),
    },
    {
        "AmusedPipeline": (
            {"prompt": "a cat", "num_inference_steps": 2, "output_type": "np", "height": 4, "width": 4},
        ),
        "AmusedImg2ImgPipeline": (
            {"prompt": "a cat", "num_inference_steps": 2, "output_type": "np", "image": lambda: tensor(4)},
        ),
        "AmusedInpaintPipeline": (
            {
                "prompt": "a cat",
                "num_inference_steps": 2,
                "output_type": "np",
                "image": lambda: tensor(4),
                "mask_image": lambda: mask(4),
            },
        ),
    },
    WIDE,
)


def z_transformer() -> Any:
    from diffusers import ZImageTransformer2DModel

    return ZImageTransformer2DModel(
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
    )


def z_controlnet(channels: int = 4) -> Any:
    return ZImageControlNetModel(
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=channels,
        add_control_noise_refiner=None,
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        qk_norm=True,
    )


family(
    {
        "text_encoder": parts.qwen3,
        "tokenizer": parts.letters,
        "transformer": z_transformer,
        "controlnet": z_controlnet,
        "vae": lambda: parts.vae(shift_factor=0.1),
        "scheduler": flow,
    },
    {
        "ZImageInpaintPipeline": (FLOW_INPAINT,),
        "ZImageControlNetPipeline": (FLOW | {"control_image": tensor},),
        "ZImageControlNetInpaintPipeline": (
            FLOW | {"control_image": tensor, "image": tensor, "mask_image": lambda: tensor(32, 1)},
            {"controlnet": lambda: z_controlnet(9)},
        ),
    },
    WIDE,
)
HUNYUAN_IMAGE = {
    "text_encoder": parts.qwen_vl,
    "tokenizer": parts.letters,
    "text_encoder_2": parts.t5,
    "tokenizer_2": parts.letters,
    "transformer": lambda: HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1),
        guidance_embeds=False,
        text_embed_dim=16,
        text_embed_2_dim=32,
        rope_axes_dim=(4, 4),
    ),
    "vae": lambda: AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        scaling_factor=0.476986,
        spatial_compression_ratio=8,
        sample_size=128,
    ),
    "scheduler": flow,
}
family(
    HUNYUAN_IMAGE,
    {
        "HunyuanImagePipeline": (
            {"prompt": 'a "cat"', "num_inference_steps": 2, "height": 16, "width": 16, "output_type": "pt"},
        ),
    },
    WIDE,
)


def flux2(guidance: bool) -> Any:
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guidance,
    )


def flux2_vae() -> Any:
    return AutoencoderKLFlux2(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(4,),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


KLEIN = {
    "text_encoder": lambda: parts.qwen3_lm(),
    "tokenizer": parts.letters,
    "transformer": lambda: flux2(False),
    "vae": flux2_vae,
    "scheduler": flow,
}
LAYERS = {"text_encoder_out_layers": lambda: (0, 1, 2)}
family(
    KLEIN,
    {
        "Flux2KleinPipeline": (FLOW | LAYERS,),
        "Flux2KleinKVPipeline": ({k: v for k, v in FLOW.items() if k != "guidance_scale"} | LAYERS,),
        "Flux2KleinInpaintPipeline": (FLOW_INPAINT | LAYERS,),
    },
    WIDE,
)
family(
    {
        "text_encoder": parts.qwen_vl,
        "tokenizer": parts.letters,
        "text_processor": parts.letters,
        "transformer": lambda: LongCatImageTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
        "vae": lambda: parts.flat_vae(16),
        "scheduler": flow,
    },
    {
        "LongCatImagePipeline": (TEXT | SMALL | {"enable_prompt_rewrite": False},),
    },
    WIDE,
)
