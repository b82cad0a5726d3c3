"""A tensor that says it is on a GPU and has no data there.

It holds a meta tensor of its shape and strides, so that torch's composite operations take the branches that
they take on CUDA and nothing is computed. Small tensors keep their values on the CPU beside it: forward
passes look at masks, lengths and time steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
META = torch.device("meta")

KEEP = 1 << 16
"""Elements of the largest tensor that keeps its values."""

Run = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

running: list[Run] = []
"""Who runs operations on these tensors, the innermost last."""


class NoDataError(RuntimeError):
    """An operation on a tensor without data, outside of a trace."""


class Traced(torch.Tensor):
    """``meta``: the tensor that bears its shape; ``value``: its data where they are known, on the CPU."""

    meta: torch.Tensor
    value: torch.Tensor | None

    @staticmethod
    def __new__(cls, meta: torch.Tensor, device: torch.device, value: torch.Tensor | None = None) -> Traced:
        """``meta`` on ``device``."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            meta.size(),
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=device,
        )
        made.meta = meta
        made.value = value
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Outside of the mode: by whoever traces."""
        if not running:
            raise NoDataError(f"{func} on a tensor without data, outside of a trace")
        return running[-1](func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        made = Traced(self.meta, self.device, self.value)
        if getattr(self, "_is_param", False):
            made._is_param = True
        memo[id(self)] = made
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Traced({tuple(self.shape)}, {self.dtype}, {self.device})"

    def tolist(self) -> Any:
        """Of its values; ones where they are not known."""
        return known(self).tolist()

    def numpy(self, **_: Any) -> Any:
        """Of its values; ones where they are not known."""
        return known(self).numpy()

    def __array__(self, *args: Any, **_: Any) -> Any:
        return known(self).numpy()


def known(tensor: Traced) -> torch.Tensor:
    """The values, or ones."""
    return torch.ones(tensor.shape, dtype=tensor.dtype) if tensor.value is None else tensor.value


def emptied(tensor: torch.Tensor) -> torch.Tensor:
    """A meta tensor with the shape, strides and dtype of ``tensor``."""
    if tensor.device.type == "meta":
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
