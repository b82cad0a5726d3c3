"""What is cooked: models and calls, cards, and where the plans of them are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from planner.models.model import Model, models
from planner.source.shipped import shipped

ENDS = ".plan.yaml"
LEFT = 1
"""GiB of a card's nominal size that are not in the budget: what a card shows is less than its name says, and
a desktop takes some."""
SIZES: Mapping[int, str] = {8: "rtx-4060", 12: "rtx-4070", 16: "rtx-4080", 24: "rtx-4090"}
"""Of a card in GB: the one that is looked at."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """``run``: arguments of the call beside the prompt, as YAML; left out are the class's own."""

    name: str
    title: str
    source: str
    run: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """What ships of it."""
        return models()[self.source]


RECIPES = (
    Recipe("sd15", "Stable Diffusion 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    Recipe("sdxl", "SDXL", "stabilityai/stable-diffusion-xl-base-1.0"),
    Recipe("sd35-medium", "SD 3.5 medium", "stabilityai/stable-diffusion-3.5-medium"),
    Recipe("sd35-large", "SD 3.5 large", "stabilityai/stable-diffusion-3.5-large"),
    Recipe("flux-dev", "Flux dev", "black-forest-labs/FLUX.1-dev"),
    Recipe("flux-kontext", "Flux Kontext dev", "black-forest-labs/FLUX.1-Kontext-dev"),
    Recipe("qwen-image", "Qwen-Image", "Qwen/Qwen-Image"),
    Recipe("sana", "Sana 1.6B", "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers"),
    Recipe("ltx-video", "LTX-Video", "Lightricks/LTX-Video"),
    Recipe("wan22-5b", "Wan 2.2 5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers"),
    Recipe("wan22-a14b", "Wan 2.2 A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"),
    Recipe("cogvideox-5b", "CogVideoX 5B", "THUDM/CogVideoX-5b"),
    Recipe("hunyuanvideo", "HunyuanVideo", "hunyuanvideo-community/HunyuanVideo"),
)


def folder() -> Path:
    """Where the plans are, with what is kept of their making."""
    return shipped("plans") / "cookbook"


def entry(recipe: Recipe, size: int) -> str:
    """The plan's name, for a card of ``size`` GB."""
    return f"{recipe.name}-{size}gb"


def file_of(recipe: Recipe, size: int) -> Path:
    """Where that plan is, if anything fits."""
    return folder() / f"{entry(recipe, size)}{ENDS}"
