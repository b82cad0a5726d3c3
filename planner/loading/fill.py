"""Seeded weights: the same bytes on each machine, and never from the global generator."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TypeVar

import torch

Module = TypeVar("Module", bound=torch.nn.Module)


def seeded(name: str, make: Callable[[], Module]) -> Module:
    """``make()`` in float32 with weights that depend on ``name`` and on their own names alone.

    Each tensor has a generator of its own, so a new one changes no other. Values are ``torch.rand``
    scaled, operation by operation in IEEE arithmetic: ``normal_`` differs between CPUs by its
    vector width. The global generator is left as it was (modules initialise themselves from it).
    """
    with torch.random.fork_rng(devices=[]):
        module = make()
    module.eval()
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            number = hashlib.sha256(f"{name}.{key}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(number[:6], "big"))
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float32).mul_(2.0).sub_(1.0)
            parameter.copy_(_scaled(key, noise))
    return module


def _scaled(key: str, noise: torch.Tensor) -> torch.Tensor:
    """Noise in -1..1 as a weight of its kind, so that activations neither vanish nor explode."""
    if key.endswith("bias"):
        return noise.mul_(0.02)
    if noise.numel() == max(noise.shape, default=1):  # a norm's scale, also as (channels, 1, 1, 1)
        return noise.mul_(0.1).add_(1.0)
    inputs = noise.numel() / noise.shape[0]
    return noise.mul_(math.sqrt(3.0 / inputs))
