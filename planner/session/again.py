"""A component's call that failed for want of memory, or of weights that it reached past our hooks, once more.

Only what can be repeated is: the random state is put back, and a component that keeps state of its own
between calls (running statistics, diffusers' caches) is not called twice.
"""

from __future__ import annotations

import functools
import gc
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn.modules.batchnorm import _NormBase

from planner.target.blocks import OURS

TRIES = 3


class Giver(Protocol):
    """Who can make room; a ``Session`` is one."""

    execution_device: torch.device

    @property
    def capped(self) -> bool:
        """Whether the device holds its allocator to the budget."""

    def give_way(self, component: str) -> bool:
        """Fewer weights on the device when ``component`` runs next; False when there are none to give."""

    def heed(self, component: str) -> bool:
        """Every module of ``component`` is watched when it runs next; False when they were already."""


def again(giver: Giver, component: str, module: Any, call: Callable[[], Any]) -> Any:
    """What ``call`` returns. Raises torch's OutOfMemoryError when there was no more room to make, and what
    ``call`` raises. Tensors on two devices are weights that nobody saw coming."""
    state = _random_state(giver.execution_device)
    for _ in range(TRIES):
        try:
            return call()
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)  # they hold the activations of the failed call
            gc.collect()
            if not (giver.capped and _repeatable(module) and giver.give_way(component)):
                raise
        except RuntimeError as error:
            if "device" not in str(error) or not (_repeatable(module) and giver.heed(component)):
                raise
        _restore(giver.execution_device, state)
    return call()


def repeat_forward(giver: Giver, component: str, module: torch.nn.Module) -> Callable[[], None] | None:
    """Makes ``module(...)`` repeatable, by the attribute through which torch itself compiles a module's call:
    ``forward`` stays what it is. Returns what undoes it; None for a module that is compiled already."""
    if module._compiled_call_impl is not None:
        return None
    called: Callable[..., Any] = module._call_impl

    @functools.wraps(called)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return called(*args, **kwargs)
        return again(giver, component, module, lambda: called(*args, **kwargs))

    vars(call)[OURS] = True
    module.__dict__["_compiled_call_impl"] = call

    def undo() -> None:
        if module.__dict__.get("_compiled_call_impl") is call:
            del module.__dict__["_compiled_call_impl"]

    return undo


def _repeatable(module: Any) -> bool:
    """Nothing that a first, failed call may have changed."""
    parts = list(module.modules()) if isinstance(module, torch.nn.Module) else []
    counts = any(isinstance(part, _NormBase) and part.training for part in parts)
    registries = (getattr(part, "_diffusers_hook", None) for part in parts)
    return not counts and not any(getattr(registry, "hooks", None) for registry in registries)


def _random_state(device: torch.device) -> tuple[torch.Tensor, Any]:
    own = torch.get_device_module(device)
    return torch.get_rng_state(), own.get_rng_state(device) if hasattr(own, "get_rng_state") else None


def _restore(device: torch.device, state: tuple[torch.Tensor, Any]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device).set_rng_state(state[1], device)
