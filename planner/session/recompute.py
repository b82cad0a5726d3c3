"""Gradient checkpointing: a block's forward is run again while backward goes on, when its component may have
left the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

KEY = "_gradient_checkpointing_func"
"""What models of diffusers and transformers call in the place of a block, with the block and its inputs."""

Use = Callable[[Callable[..., Any]], Any]
"""Runs a function with the component on the device."""


@contextmanager
def recomputing(module: torch.nn.Module, use: Use) -> Iterator[None]:
    """Inside it, what is checkpointed of ``module`` is recomputed as a use of its own: by ``use``."""
    found = [
        (part, part.__dict__[KEY])
        for part in module.modules()
        if getattr(part, "gradient_checkpointing", False) and KEY in part.__dict__
    ]
    try:
        for part, func in found:
            part.__dict__[KEY] = partial(_checkpointed, func, use)
        yield
    finally:
        for part, func in found:
            part.__dict__[KEY] = func


def _checkpointed(
    func: Callable[..., Any], use: Use, block: Callable[..., Any], *args: Any, **more: Any
) -> Any:
    def run(*inputs: Any, **named: Any) -> Any:
        return use(partial(block, *inputs, **named))

    return func(run, *args, **more)
