"""What the pipeline itself keeps on the device between uses: latents, embeddings, schedulers' tensors."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.tracing.ledger import rounded
from planner.tracing.tensor import Traced


class Glue(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types no subclassing
    """``live``: bytes of tensors that live. It computes on the CPU what a GPU would have computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self._seen: dict[int, tuple[Any, int, int]] = {}
        """By storage: a reference to it, its bytes, and how many were allocated before it."""
        self._made = 0
        self._events: list[int] = []

    def events(self) -> tuple[int, ...]:
        """What was allocated and freed since this was asked last, as ``Turn.glue`` has it."""
        found, self._events = tuple(self._events), []
        return found

    def add(self, tensor: Any) -> None:
        """Counts its storage, once."""
        if isinstance(tensor, Traced) or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = rounded(storage.nbytes())
        if not size:
            return
        self._seen[key] = weakref.ref(storage, lambda gone: self._gone(key, gone)), size, self._made
        self._made += 1
        self._events.append(size)
        self.live += size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What it returns is counted."""
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(one, torch.Tensor):
                self.add(one)
        return out

    @contextmanager
    def left(self) -> Iterator[None]:
        """Without it, where it is the innermost mode."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            self.__enter__()  # type: ignore[no-untyped-call]

    def _gone(self, key: int, reference: Any) -> None:
        if self._seen.get(key, (None,))[0] is reference:
            _, size, number = self._seen.pop(key)
            self._events.append(number - self._made)
            self.live -= size
