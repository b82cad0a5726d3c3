"""Gradients through weights that come and go: to the user's own Parameters, and without keeping device
memory.

A weight of a component that leaves is bound as the output of a function of the host's Parameter, so that its
gradient arrives there. What autograd would save of it is saved as a note of which weight it is, and fetched
from the host again when backward asks (``torch.autograd.graph.saved_tensors_hooks``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import WEIGHTS_CHANGED
from planner.host.regions import Cuts, copied


class _OnDevice(torch.autograd.Function):
    """The device's tensor as a function of the host's. It comes in a tuple: of a leaf among its arguments
    autograd would keep the accumulator, and with that its memory."""

    @staticmethod
    def forward(ctx: Any, host: torch.Tensor, own: tuple[torch.Tensor]) -> torch.Tensor:
        ctx.host = host
        return own[0].detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].to("cpu"), None


def on_device(host: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """``own``, for ``host`` where that has no gradient; else a tensor over it whose gradient is the
    host's."""
    if not host.requires_grad:
        return own
    with torch.inference_mode(False), torch.enable_grad():
        made: torch.Tensor = _OnDevice.apply(host, (own,))  # type: ignore[no-untyped-call]
    return made


def tell_host(host: torch.Tensor, own: torch.Tensor) -> None:
    """Whatever gradient ``own``, a leaf, accumulates is accumulated in ``host.grad`` too."""

    def add(gradient: torch.Tensor) -> None:
        found = gradient.detach().to("cpu")
        host.grad = found if host.grad is None else host.grad + found

    own.register_hook(add)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Saved:
    """A view of a weight: ``offset`` in elements from the weight's first. ``version``: of the host's values;
    ``cuts``: as ``Pins.cuts``."""

    host: torch.Tensor
    device: torch.device
    size: torch.Size
    stride: tuple[int, ...]
    offset: int
    version: int
    cuts: Cuts

    def fetch(self) -> torch.Tensor:
        """The view, over a copy of the weight. Raises PlanError (P734) where its values are others by now."""
        if self.host._version != self.version:
            said = "a weight that backward needs was changed after the forward"
            raise PlanError([finding(WEIGHTS_CHANGED, said, hint="change weights after backward()")])
        with torch.no_grad():
            whole = copied(self.host, self.device, self.cuts)
            return whole.as_strided(self.size, self.stride, self.offset)


Weights = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Pairs of the host's tensor and the device's."""


def saved_as_notes(find: Callable[[torch.Tensor], Weights], cuts: Cuts) -> AbstractContextManager[None]:
    """Inside it, autograd saves no memory of weights. ``find``: those that lie in the storage of a tensor;
    ``cuts``: as ``Pins.cuts``, where copies of the host's memory have to be cut.

    torch asks the innermost hooks alone, so where somebody else's are (a checkpoint that computes again,
    ``save_on_cpu``) they stay the innermost."""
    others = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if others is not None and others[0].__module__ != __name__:
        return nullcontext()

    def pack(tensor: torch.Tensor) -> Any:
        if tensor.device.type == "cpu" or tensor.is_inference():
            return tensor
        for host, own in find(tensor):
            offset = int(tensor.storage_offset() - own.storage_offset())
            if tensor.dtype == own.dtype and 0 <= offset < max(1, own.numel()) and _plain(host, own):
                return _Saved(host, own.device, tensor.size(), tensor.stride(), offset, host._version, cuts)
        return tensor

    def unpack(packed: Any) -> torch.Tensor:
        found: torch.Tensor = packed.fetch() if isinstance(packed, _Saved) else packed
        return found

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _plain(host: torch.Tensor, own: torch.Tensor) -> bool:
    """Its bytes are laid out alike on both sides."""
    return (
        not host.is_inference() and host.stride() == own.stride() and not hasattr(host, "__tensor_flatten__")
    )
