"""Peaks that were measured on an H200 with torch 2.11.0+cu130, cuDNN 9.19, diffusers 0.42.1 and transformers
5.17, with random weights: bytes allocated at the peak of a use beside its weights and inputs."""

from __future__ import annotations

from planner.tracing.hollow import Part

_CLIP = {"vocab_size": 49408, "num_hidden_layers": 12, "max_position_embeddings": 77}
_CLIP_L = {**_CLIP, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_CLIP_G = {
    **_CLIP,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_UNET = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def _part(library: str, cls: str, **config: object) -> Part:
    return Part(library=library, cls=cls, config=config, dtype="float16")


SDXL = {
    "text_encoder": _part("transformers", "CLIPTextModel", projection_dim=768, **_CLIP_L),
    "text_encoder_2": _part("transformers", "CLIPTextModelWithProjection", **_CLIP_G),
    "unet": _part("diffusers", "UNet2DConditionModel", **_UNET),
    "vae": _part("diffusers", "AutoencoderKL", **_VAE),
    "tokenizer": _part("transformers", "CLIPTokenizer", model_max_length=77),
    "tokenizer_2": _part("transformers", "CLIPTokenizer", model_max_length=77),
    "scheduler": _part("diffusers", "EulerDiscreteScheduler"),
}
SDXL_PEAKS = {
    "text_encoder": 3075072,
    "text_encoder_2": 8279040,
    "unet": 341085587,
    "vae": 5118624403,
}
"""At 1024 x 1024 with guidance; the VAE in float32, as its config asks."""
