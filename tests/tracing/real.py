"""The uses of a real call, by a recorder that shares no code with the one that is judged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

NO_USE = {"to", "eval", "train", "half", "float", "forward", "requires_grad_", "get_extended_attention_mask"}

Seen = tuple[str, str, int]
"""A component, an entry, bytes of the tensors that it is given."""


class Real:
    """``seen``: in the order in which they began."""

    def __init__(self, pipe: Any) -> None:
        self.seen: list[Seen] = []
        self._inside = False
        for name, part in pipe.components.items():
            if isinstance(part, torch.nn.Module):
                for path, module in part.named_modules():
                    module.register_forward_pre_hook(self._enter(name, path), with_kwargs=True)
                    module.register_forward_hook(self._leave, always_call=True)
        self._stack: list[bool] = []

    def _enter(self, name: str, path: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            self._stack.append(self._inside)
            if not self._inside:
                self._note(name, path, (args, kwargs))
                self._inside = True

        return hook

    def _leave(self, *_: Any) -> None:
        self._inside = self._stack.pop()

    def _note(self, name: str, entry: str, given: Any) -> None:
        leaves = torch.utils._pytree.tree_leaves(given)
        tensors = {id(t): t for t in leaves if isinstance(t, torch.Tensor)}
        self.seen.append((name, entry, sum(map(_bytes, tensors.values()))))

    @contextmanager
    def methods(self, pipe: Any, names: set[tuple[str, str]]) -> Iterator[None]:
        """Methods that are entered by name (``vae.decode``) are uses as well."""
        changed = []
        for name, method in names:
            part = getattr(pipe, name)
            old = getattr(part, method)

            def entered(*args: Any, _old: Any = old, _as: Any = (name, method), **kwargs: Any) -> Any:
                given = torch.utils._pytree.tree_leaves((args, kwargs))
                if self._inside or not any(isinstance(t, torch.Tensor) for t in given):
                    return _old(*args, **kwargs)
                self._note(_as[0], _as[1], (args, kwargs))
                self._inside = True
                try:
                    return _old(*args, **kwargs)
                finally:
                    self._inside = False

            part.__dict__[method] = entered
            changed.append((part, method))
        try:
            yield
        finally:
            for part, method in changed:
                del part.__dict__[method]


def _bytes(tensor: torch.Tensor) -> int:
    if not tensor.numel():
        return 0
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return -(-(last + 1) * tensor.element_size() // 512) * 512


def public(part: Any) -> set[str]:
    """Methods that a pipeline may enter it by: its class's own functions."""
    found = set()
    for cls in type(part).__mro__:
        if cls is torch.nn.Module:
            break
        if cls.__module__.startswith(("diffusers.models", "diffusers.pipelines", "transformers.models")):
            found |= {
                name
                for name, value in vars(cls).items()
                if callable(value)
                and not isinstance(value, (type, staticmethod, classmethod))
                and not name.startswith("_")
            }
    return found - NO_USE
