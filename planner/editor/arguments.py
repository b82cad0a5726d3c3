"""Arguments of calls: what the commonest mean, and which classes have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.document.language.shape import Shape
from planner.plan.run import GIVEN, SEED, told, writable
from planner.target.call import LEFT_OPEN, Argument, Call

DOCUMENTED: Mapping[str, tuple[str, Any]] = {
    "prompt": ("What the result should show.", "a cat on a wooden table"),
    "negative_prompt": ("What it should not show.", "blurry"),
    "num_inference_steps": ("Denoising steps: more take longer.", 28),
    "guidance_scale": ("How closely the prompt is followed.", 5.0),
    SEED: ("Of the random generator: the same seed gives the same result.", 0),
    "height": ("Pixels.", 1024),
    "width": ("Pixels.", 1024),
    "num_images_per_prompt": ("Images that one call makes of a prompt.", 1),
    "max_sequence_length": ("Tokens of a prompt that are read.", 512),
    "prompt_2": ("The prompt of the second text encoder; prompt when left out.", "a cat"),
    "negative_prompt_2": ("The negative prompt of the second text encoder.", "blurry"),
    "true_cfg_scale": ("Guidance by a negative prompt, of guidance-distilled models; 1 is none.", 4.0),
    "guidance_rescale": ("Rescales guided noise against overexposure, from 0 to 1.", 0.7),
    "clip_skip": ("How many of CLIP's last layers are left out.", 1),
    "image": ("The image that it starts from: a path relative to the plan.", "input.png"),
    "strength": ("How far it may leave the image, from 0 to 1.", 0.6),
    "mask_image": ("White where the image is painted anew: a path relative to the plan.", "mask.png"),
    "control_image": ("What a ControlNet follows: a path relative to the plan.", "edges.png"),
    "controlnet_conditioning_scale": ("How closely a ControlNet is followed.", 0.8),
    "control_guidance_start": ("From which share of the steps a ControlNet is followed.", 0.0),
    "control_guidance_end": ("To which share of the steps a ControlNet is followed.", 0.9),
    "ip_adapter_image": ("The image that an IP-Adapter follows: a path relative to the plan.", "style.png"),
    "num_frames": ("Frames of the video.", 81),
    "num_videos_per_prompt": ("Videos that one call makes of a prompt.", 1),
    "video": ("The video that it starts from: a path relative to the plan.", "input.mp4"),
    "frame_rate": ("Frames a second.", 24),
    "decode_chunk_size": ("Frames that are decoded at once.", 8),
    "denoising_start": ("From which share of the steps a refiner goes on.", 0.8),
    "denoising_end": ("At which share of the steps a base model stops.", 0.8),
}
"""By name: what it does, and an example. In diffusers' documentation of the calls."""


_ANYTHING = ["string", "number", "boolean", "array", "object", "null"]


def documented(name: str) -> Shape:
    """What an editor says of one of DOCUMENTED, whatever the class."""
    description, example = DOCUMENTED[name]
    return {"title": f"run.{name}", "description": description, "examples": [example]}


def of_call(call: Call) -> Shape:
    """Every argument of a class's call that a plan can write, with its own default."""
    named = {n: a for n, a in call.arguments.items() if n not in GIVEN and writable(a)}
    return {**{n: _argument(a) for n, a in named.items()}, SEED: documented(SEED)}


def _argument(argument: Argument) -> Shape:
    said, example = DOCUMENTED.get(argument.name, ("", argument.default))
    takes = told(argument.forms)
    words = [said, f"Takes {takes}." if takes else ""]
    if argument.default not in (None, LEFT_OPEN):
        words.append(f"{argument.default} when left out.")
        example = argument.default
    plain = isinstance(example, (str, int, float)) and example != ""
    return {
        "title": f"run.{argument.name}",
        "description": " ".join(filter(None, words)) or "An argument of the call.",
        **({"examples": [example]} if plain else {"type": _ANYTHING}),
    }
