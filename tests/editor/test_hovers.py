"""What yaml-language-server explains of a word."""

from __future__ import annotations

import pytest
from editor.server import Server

FLUX = "version: 1\npipeline: {class: FluxPipeline}\n"

WORDS = {
    "pipeline": ("version: 1\npipe|line: FluxPipeline\n", "class name alone, or a mapping"),
    "pipeline.class": ("version: 1\npipeline: {cl|ass: FluxPipeline}\n", "The diffusers pipeline class"),
    "pipeline.source": ("version: 1\npipeline: {class: X, sou|rce: ./x}\n", "a hub id"),
    "budget": (FLUX + "bud|get: {vram: 11GiB}\n", "vram: 11GiB"),
    "budget.vram": (FLUX + "budget: {vr|am: 7GiB}\n", "80%"),
    "components": (FLUX + "compo|nents: {vae: stream}\n", "unet: stream"),
    "component": (FLUX + "components: {va|e: stream}\n", "`offload`: the whole component comes and goes"),
    "component.policy": (FLUX + "components: {vae: {pol|icy: stream}}\n", "`stream`: in blocks"),
    "order": (FLUX + "ord|er: [vae]\n", "text_encoder -> unet -> vae"),
    "stage.runs": (FLUX + "stages: [{id: a, ru|ns: [vae]}]\n", "- text_encoder"),
    "use": (FLUX + "order: [v|ae]\n", "one of its entry points"),
    "rule.backend": (
        FLUX + "quantization: [{component: vae, back|end: torchao, type: int8_weight_only}]\n",
        "`quanto`: type: int8, float8, int4, int2",
    ),
    "torchao type": (
        FLUX + "quantization: [{component: vae, backend: torchao, ty|pe: int8_weight_only}]\n",
        "int8_weight_only",
    ),
    "rule.threshold": (
        FLUX + "quantization: [{component: vae, backend: bitsandbytes, type: int8, thres|hold: 6}]\n",
        "activations above it",
    ),
    "version": ("ver|sion: 1\npipeline: X\n", "The version of the plan language"),
    "extends": ("ext|ends: x.plan.yaml\n", "flux-12gb.plan.yaml"),
    "loras": (FLUX + "lor|as: []\n", "lora_scale: 0.125"),
    "workload.batch": (FLUX + "workload: {ba|tch: 1}\n", "Images a prompt"),
    "stage.loop": (FLUX + "stages: [{id: a, runs: [vae], lo|op: 3}]\n", "12.5%"),
    "requires": (FLUX + "requires: {diff|users: '>1'}\n", "version specifier"),
    "rule.match": (
        FLUX + "quantization: [{component: vae, backend: quanto, type: int8, ma|tch: x}]\n",
        "match: attn",
    ),
    r"run.num\_inference\_steps": (FLUX + "run: {num_inf|erence_steps: 4}\n", "Denoising steps"),
    "run.strength": (
        "version: 1\npipeline: FluxImg2ImgPipeline\nrun: {str|ength: 0.5}\n",
        "How far it may leave the image",
    ),
    "idle": (FLUX + "id|le: keep\n", "`keep`: what fits"),
}


@pytest.mark.parametrize("title", WORDS)
def test_a_title_what_it_means_and_an_example(server: Server, title: str) -> None:
    text, words = WORDS[title]
    said = server.hover(text)
    assert said.startswith(f"#### {title}\n")
    assert words in said
    assert "Example:" in said
    assert "object Object" not in said


def test_a_class_is_not_explained_by_all_others(server: Server) -> None:
    assert "AllegroPipeline" not in server.hover("version: 1\npipeline: {class: Flux|Pipeline}\n")
