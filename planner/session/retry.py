"""A component's call that failed for want of memory, or of weights that it reached past our hooks, once more.

Only what can be repeated is: the random state is put back, and a component that keeps state of its own
between calls (running statistics, diffusers' caches) is not called twice.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState
from planner.session.frames import drop_frames, release_all_locals
from planner.session.onload import evict_for_retry

TRIES = 3


def again(state: DeviceState, component: ManagedComponent, call: Callable[[], Any]) -> Any:
    """What ``call`` returns. Raises torch's OutOfMemoryError when there was no more room to make, and what
    ``call`` raises. Tensors on two devices are weights that no hook saw coming."""
    device = state.device.name
    random = _random_state(device)
    outer = sys.exc_info()[1]
    for _ in range(TRIES):
        try:
            return call()
        except torch.OutOfMemoryError as error:
            release_all_locals(error, outer)
            gc.collect()
            if not (_repeatable(component) and _made_room(state, component)):
                raise
            drop_frames(error, outer)
        except RuntimeError as error:
            if "device" not in str(error) or not (_repeatable(component) and _hooked(state, component)):
                raise
        _restore(device, random)
    return call()


def _made_room(state: DeviceState, component: ManagedComponent) -> bool:
    """Whether less is on the device when it runs next."""
    found = state.charged(component) if state.residency.activations.capped else None
    return found is not None and evict_for_retry(state.residency, *found)


def _hooked(state: DeviceState, component: ManagedComponent) -> bool:
    """It may have met weights that were not there: its modules are all hooked from now on. False where they
    were, or it runs."""
    if component.every_module or component in state.residency.running_components():
        return False
    component.hook_every_module()
    return True


def _repeatable(component: ManagedComponent) -> bool:
    """Nothing that a first, failed call may have changed."""
    module = component.module
    parts = [] if module is None else [*module.modules()]
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
