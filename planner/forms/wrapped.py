"""Quantized weights as the plain tensors that they are made of, and made again over other memory.

So they are registered, brought and streamed as any weight is, and nothing goes back to the host: their state
lies in plain tensors, or beside them in attributes that no forward changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch

from planner.target.wrapped import STATE, held

_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
BESIDE = ("GGUFParameter", "Params4bit", "Int8Params")
"""Parameters of diffusers and bitsandbytes whose bytes are a plain tensor, with attributes beside them."""


def parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
    """The strided host tensors that ``tensor`` is made of (itself, for a plain one); None where only its own
    class can move it."""
    found = tuple(held(tensor))
    own = type(tensor) if type(tensor).__name__ in BESIDE else None
    return found if all(plain(part) or (type(part) is own and _strided(part)) for part in found) else None


def plain(tensor: torch.Tensor) -> bool:
    """A strided host tensor whose bytes are all there is to it."""
    return type(tensor) in _PLAIN and _strided(tensor)


def joined(like: torch.Tensor, pieces: Iterator[torch.Tensor]) -> torch.Tensor:
    """A tensor as ``like``, a Parameter where that is one, made of ``pieces`` in the order of ``parts``."""
    if hasattr(like, "__tensor_flatten__"):
        names, context = like.__tensor_flatten__()
        inside = {name: joined(getattr(like, name), pieces) for name in names}
        made: Any = cast(Any, type(like)).__tensor_unflatten__(inside, context, like.shape, like.stride())
    elif type(like).__name__ in BESIDE:
        made = torch.Tensor._make_subclass(type(like), next(pieces), like.requires_grad)
        vars(made).update(vars(like))
        if (state := getattr(like, "quant_state", None)) is not None:
            made.quant_state = _state(state, pieces)
        return cast(torch.Tensor, made)
    else:
        made = next(pieces)
    if isinstance(like, torch.nn.Parameter):
        made = torch.nn.Parameter(made, requires_grad=like.requires_grad)
    return cast(torch.Tensor, made)


def repacked(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether its class lays it out anew for ``device``: quanto (0.2.7) does for its kernels on CUDA, where
    they could be built, for float8 and int4 alone, and int4 for those of the CPU."""
    kind = str(getattr(tensor, "qtype", ""))
    quanto = type(tensor).__module__.startswith("optimum.quanto")
    cuda = device.type == "cuda" and any(name in kind for name in ("qfloat8", "qint4"))
    return quanto and (cuda or type(tensor).__name__ == "TinyGemmWeightQBitsTensor")


def _state(state: Any, pieces: Iterator[torch.Tensor]) -> Any:
    made = copy.copy(state)
    for name in STATE:
        if getattr(state, name, None) is not None:
            setattr(made, name, next(pieces))
    if state.state2 is not None:
        made.state2 = _state(state.state2, pieces)
    return made


def _strided(tensor: torch.Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_conj()
    )
