"""``module._hf_hook``: where diffusers reads the execution device, and whom its ``apply_forward_hook``
methods call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from accelerate.hooks import ModelHook

from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState
from planner.session.undo import Undo

_MISSING: Any = object()
_untraced: Callable[[Any], Any] = torch.compiler.disable


class HfHook:
    """Never accelerate's ``CpuOffload`` or ``AlignDevicesHook``: LoRA loaders remove those. A hook of
    somebody else that stood there is kept inside and called first."""

    no_grad = False

    def __init__(self, state: DeviceState, component: ManagedComponent, inner: Any) -> None:
        self.state = state
        self.component = component
        self.inner = inner
        self.execution_device = state.device.name
        self.no_grad = getattr(inner, "no_grad", False)

    @_untraced
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """As accelerate's ``ModelHook.pre_forward``: returns the arguments to call with."""
        if self.inner is not None:
            args, kwargs = self.inner.pre_forward(module, *args, **kwargs)
        self.state.touch(self.component)
        return args, kwargs

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """As accelerate's ``ModelHook.post_forward``."""
        return output if self.inner is None else self.inner.post_forward(module, output)

    def init_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Nothing to do: accelerate calls it when it chains hooks."""
        return module

    def detach_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Somebody removes hooks through accelerate: the inner one is told; the component stays under its
        plan."""
        return module if self.inner is None else self.inner.detach_hook(module)

    def __reduce__(self) -> tuple[Any, ...]:
        """Of a copy of a chain: what does nothing, and needs nothing of ours."""
        return copy.copy, (ModelHook() if self.inner is None else self.inner,)


def put_hook(state: DeviceState, component: ManagedComponent, module: torch.nn.Module, undo: Undo) -> None:
    """The hook at ``module._hf_hook``; ``undo`` takes it off again."""
    found = module.__dict__.get("_hf_hook", _MISSING)
    ours = HfHook(state, component, None if found is _MISSING else found)

    def restore() -> None:
        now = module.__dict__.get("_hf_hook", _MISSING)
        if now is ours:
            if found is _MISSING:
                del module.__dict__["_hf_hook"]
            else:
                module.__dict__["_hf_hook"] = found
        elif now is not _MISSING and ours in getattr(now, "hooks", ()):
            # Chained later with append=True: take ours out of the chain, leave the others.
            now.hooks = tuple(hook for hook in now.hooks if hook is not ours)

    undo.add(restore)
    module.__dict__["_hf_hook"] = ours


def is_hooked(module: torch.nn.Module) -> bool:
    """Whether ours is there, by itself or in a chain."""
    hook = module.__dict__.get("_hf_hook")
    return isinstance(hook, HfHook) or any(isinstance(h, HfHook) for h in getattr(hook, "hooks", ()))
