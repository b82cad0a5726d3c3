"""Inputs for calls: small pictures and videos, the same each time."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image


def picture(size: int = 32) -> Any:
    made = Image.new("RGB", (size, size), (90, 30, 200))
    made.paste((10, 200, 60), (0, 0, size // 2, size // 3))
    return made


def mask(size: int = 32) -> Any:
    made = Image.new("L", (size, size), 0)
    made.paste(255, (0, 0, size // 2, size))
    return made


def tensor(size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(1))


def embeds(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def video(frames: int = 3, size: int = 16) -> list[Any]:
    return [picture(size) for _ in range(frames)]
