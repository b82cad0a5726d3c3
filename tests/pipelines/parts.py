"""Components of real pipelines, tiny, with random weights: the parts that families share."""

from __future__ import annotations

import copy
import string
from functools import lru_cache
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D")
_UP = ("CrossAttnUpBlock2D", "UpBlock2D")


@lru_cache
def clip_tokenizer() -> Any:
    """Letters, each with and without the mark that ends a word."""
    letters = string.ascii_lowercase + string.digits + ",."
    words = ["<|startoftext|>", "!", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


@lru_cache
def letters(special: tuple[str, ...] = (), length: int = 512) -> Any:
    """A tokenizer of single characters, in the place of T5's, Gemma's and Qwen's."""
    words = ["<pad>", "</s>", "<unk>", "<bos>", *special, *string.printable]
    model = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<bos>",
        model_max_length=length,
    )
    if special:
        made.add_special_tokens({"additional_special_tokens": list(special)})
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return made


@lru_cache
def closed_letters(length: int = 77) -> Any:
    """Characters with an end: an empty text is one token, as with the tokenizers of real encoders."""
    made = copy.deepcopy(letters((), length))
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", made.eos_token_id)]
    )
    return made


def clip_text(*, projection: bool = False, hidden: int = 32, layers: int = 3, act: str = "quick_gelu") -> Any:
    config = CLIPTextConfig(
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        hidden_size=hidden,
        projection_dim=hidden,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=layers,
        vocab_size=100,
        hidden_act=act,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def clip_vision(*, hidden: int = 32, size: int = 32, patch: int = 4, heads: int = 4) -> Any:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=hidden,
            projection_dim=hidden,
            num_hidden_layers=2,
            num_attention_heads=heads,
            image_size=size,
            intermediate_size=37,
            patch_size=patch,
        )
    )


def clip_image_processor(size: int = 32) -> Any:
    return CLIPImageProcessor(crop_size=size, size=size)


def t5(hidden: int = 32, *, umt5: bool = False) -> Any:
    sizes = {"vocab_size": 128, "d_model": hidden, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(**sizes)) if umt5 else T5EncoderModel(T5Config(**sizes))


def gemma2(hidden: int = 8) -> Any:
    return Gemma2Model(
        Gemma2Config(
            vocab_size=128,
            head_dim=4,
            hidden_size=hidden,
            intermediate_size=8,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=2,
            attn_implementation="eager",
        )
    )


def llama(hidden: int = 16) -> Any:
    return LlamaModel(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=3,
            pad_token_id=0,
            vocab_size=128,
        )
    )


def qwen3(hidden: int = 16) -> Any:
    return Qwen3Model(
        Qwen3Config(
            hidden_size=hidden,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=128,
            max_position_embeddings=512,
        )
    )


def qwen3_lm(hidden: int = 16) -> Any:
    return Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=hidden,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=128,
            max_position_embeddings=512,
        )
    )


def qwen_vl() -> Any:
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 160,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_scaling": rope,
                "rope_theta": 1e6,
            },
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
            vision_start_token_id=150,
            vision_end_token_id=151,
            vision_token_id=152,
            image_token_id=153,
            video_token_id=154,
        )
    )


def unet(*, inputs: int = 4, cross: int = 32, **more: Any) -> Any:
    sizes: dict[str, Any] = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "sample_size": 32,
        "in_channels": inputs,
        "out_channels": 4,
        "down_block_types": _DOWN,
        "up_block_types": _UP,
        "cross_attention_dim": cross,
        "norm_num_groups": 1,
    }
    return UNet2DConditionModel(**(sizes | more))


XL: dict[str, Any] = {
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 80,
}


def controlnet(*, cross: int = 32, **more: Any) -> Any:
    return ControlNetModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        in_channels=4,
        down_block_types=_DOWN,
        cross_attention_dim=cross,
        conditioning_embedding_out_channels=(4, 8),
        norm_num_groups=1,
        **more,
    )


def vae(*, latent: int = 4, blocks: tuple[int, ...] = (4, 8), **more: Any) -> Any:
    return AutoencoderKL(
        block_out_channels=blocks,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(blocks),
        up_block_types=("UpDecoderBlock2D",) * len(blocks),
        latent_channels=latent,
        norm_num_groups=2,
        sample_size=32,
        **more,
    )


def flat_vae(latent: int) -> Any:
    """The VAE of the flow models: one level, no quantization convolutions."""
    return vae(
        latent=latent,
        blocks=(4,),
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
