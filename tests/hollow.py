"""Folders of true size that hold no weights: headers, and files with nothing in them but their length."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

NAMES = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}


def hollow(
    folder: Path, cls: str, models: Mapping[str, Callable[[], Any]], others: Mapping[str, tuple[str, str]]
) -> Path:
    """A pipeline's folder in bfloat16: ``models`` are built on the meta device, ``others`` weigh nothing."""
    index: dict[str, Any] = {"_class_name": cls, **others}
    for name, make in models.items():
        with torch.device("meta"):
            module = make()
        library = type(module).__module__.partition(".")[0]
        index[name] = [library, type(module).__name__]
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
        _file(folder / name / NAMES[library], module)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _file(path: Path, module: Any) -> None:
    header, at = {}, 0
    for name, tensor in module.named_parameters():
        end = at + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + at)


def hollow_flux(folder: Path) -> Path:
    """Flux of true size, without its bytes."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = T5Config(d_model=4096, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
    models = {
        "transformer": lambda: FluxTransformer2DModel(guidance_embeds=True),
        "text_encoder_2": lambda: T5EncoderModel(t5),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig()),
        "vae": AutoencoderKL,
    }
    others = {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "tokenizer_2": ("transformers", "T5TokenizerFast"),
    }
    return hollow(folder, "FluxPipeline", models, others)
