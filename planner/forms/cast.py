"""Weights that are stored in another dtype than they compute in: half the bytes lie and cross as float8.

A weight tells the dtype that it computes in, so whoever asks a model, a layer or a weight for its dtype (a
parent that casts its inputs, peft that makes an adapter) hears that. What computes with it gets its values
in that dtype, made where the bytes lie and dropped afterwards. diffusers' hooks (0.42,
hooks/layerwise_casting.py) change the weights themselves around each layer's forward: they say float8 in
between, cannot be undone, and meet nobody who reads a layer's weights without calling it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

_aten: Any = torch.ops.aten
_SHARED = (_aten.detach.default, _aten.alias.default)
_SAME = (_aten.clone.default, _aten._to_copy.default)
"""What another of the same kind comes of: ``.data``; a copy, a move, another dtype to compute in."""

_LAYERS = (
    *(torch.nn.functional.linear, torch.nn.functional.embedding),
    *(torch.conv1d, torch.conv2d, torch.conv3d),
    *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
)
"""What the modules compute with that are cast: taken whole, because torch may pick another kernel for the
parts of one."""


class Cast(torch.Tensor):
    """``stored``, said to be of ``dtype``. A change in place is written to ``stored``, rounded."""

    stored: torch.Tensor

    @staticmethod
    def __new__(cls: type[Cast], stored: torch.Tensor, dtype: torch.dtype) -> Cast:
        """Shares the memory of ``stored``."""
        made: Cast = torch.Tensor._make_wrapper_subclass(
            cls, stored.shape, strides=stored.stride(), dtype=dtype, device=stored.device
        )
        made.stored = stored
        return made

    def full(self) -> torch.Tensor:
        """Its values, as a plain tensor."""
        return self.stored.to(self.dtype)

    def __tensor_flatten__(self) -> tuple[list[str], torch.dtype]:
        return ["stored"], self.dtype

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], dtype: torch.dtype, *_: Any) -> Cast:
        return Cast(inner["stored"], dtype)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LAYERS:
            args = [v.full() if isinstance(v, Cast) else v for v in args]
            kwargs = {
                key: value.full() if isinstance(value, Cast) else value for key, value in kwargs.items()
            }
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub leaves out the class method
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        mine = args[0] if args else None
        if func in _SHARED:
            return Cast(args[0].stored, args[0].dtype)
        if func in _SAME and isinstance(mine, Cast):
            dtype = kwargs.pop("dtype", None) or mine.dtype
            return Cast(func(mine.stored, **kwargs), dtype)
        plain, named = tree_map_only(Cast, Cast.full, (args, kwargs))
        out = func(*plain, **named)
        if func._schema.is_mutable and isinstance(mine, Cast):
            mine.stored.copy_(plain[0])
            torch.autograd.graph.increment_version(mine.stored)  # which torch does not do below a dispatch
            return mine
        return out

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped above
        return f"Cast({self.stored!r}, {self.dtype})"

    # A copy is under no plan, and what loads it needs nothing of ours.

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) not in memo:
            memo[id(self)] = self._plain()
        copied: torch.Tensor = memo[id(self)]
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain: Any = self._plain()
        return plain.__reduce_ex__(protocol)

    def _plain(self) -> torch.Tensor:
        full = self.full()
        return torch.nn.Parameter(full, self.requires_grad) if isinstance(self, torch.nn.Parameter) else full
