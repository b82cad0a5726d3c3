"""What torch and diffusers are told while a call is traced; all of it is taken back, whatever is raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from planner.tracing.attention import OneKernel
from planner.tracing.guard import ensure_guard
from planner.tracing.mode import Tracer
from planner.tracing.tensor import CPU, running


class Swaps:
    """Attributes set for a while."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def set(self, owner: Any, name: str, value: Any) -> None:
        """``owner.name`` is ``value`` until the stack closes; one that it inherited is inherited again."""
        own = name in vars(owner)
        before = vars(owner)[name] if own else None
        setattr(owner, name, value)
        if own:
            self._stack.callback(setattr, owner, name, before)
        else:
            self._stack.callback(delattr, owner, name)


@contextmanager
def as_on_gpu(tracer: Tracer) -> Iterator[None]:
    """A use runs here: every operation goes to ``tracer``."""
    ensure_guard()
    with ExitStack() as stack:
        swaps = Swaps(stack)
        swaps.set(torch.cuda, "_lazy_init", lambda: None)
        swaps.set(torch.cuda, "current_device", lambda: 0)
        swaps.set(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        swaps.set(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.enter_context(_runs(tracer))
        stack.enter_context(torch.no_grad())
        stack.enter_context(tracer)
        stack.enter_context(OneKernel(tracer.kernels, tracer.ledger))
        yield


@contextmanager
def as_called(tracer: Tracer, enter: Callable[..., Any], convert: Callable[..., Any]) -> Iterator[None]:
    """A pipeline's call runs here, on the CPU. ``enter(call, module, args, kwargs)`` stands in for
    ``Module.__call__``, ``convert(apply, module, function, recurse)`` for ``Module._apply``."""
    from diffusers import DiffusionPipeline

    module = torch.nn.Module
    call, apply = module.__call__, module._apply
    with ExitStack() as stack:
        swaps = Swaps(stack)

        def entered(self: Any, *args: Any, **kwargs: Any) -> Any:
            return enter(call, self, args, kwargs)

        def converted(self: Any, function: Any, recurse: bool = True) -> Any:
            return convert(apply, self, function, recurse)

        swaps.set(module, "__call__", entered)
        swaps.set(module, "_apply", converted)
        swaps.set(DiffusionPipeline, "_execution_device", property(lambda _: CPU))
        swaps.set(DiffusionPipeline, "device", property(lambda _: CPU))
        swaps.set(DiffusionPipeline, "maybe_free_model_hooks", lambda _: None)
        stack.enter_context(_runs(tracer))
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def _runs(tracer: Tracer) -> Iterator[None]:
    running.append(tracer.run)
    try:
        yield
    finally:
        running.pop()
