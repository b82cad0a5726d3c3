"""Pickles run code when they are read. Unless the user allows it, none reaches ``torch.load``.

diffusers (0.42.1, model_loading_utils.py:load_state_dict) and transformers give it every file whose suffix is
not ``.safetensors`` or ``.gguf``, and an index of shards may name any file: so suffixes are allowed, not
denied, and what is read all the same is stopped where it would be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from planner.target.place import READABLE

HINT = "--allow-pickle, or allow_pickle=True, if you trust it"

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""What files of pickled weights are called most often."""

_lock = threading.Lock()
_guards: list[frozenset[int | None]] = []
"""For each load that is under way, the threads that were there before and are no part of it."""
_torch_load: Any = None


class Refused(Exception):
    """A file that may not be read."""


def looks_pickled(name: str) -> bool:
    """Whether ``name`` is what pickled weights are called, whether or not there is such a file."""
    return name.lower().endswith(PICKLES)


def may_run(name: str) -> bool:
    """Whether reading the file ``name`` may run code."""
    return not name.endswith(READABLE)


@contextmanager
def none_read(allow_pickle: bool = False) -> Iterator[None]:
    """Inside, ``torch.load`` raises Refused in this thread and in those that it starts, unless
    ``allow_pickle``."""
    global _torch_load
    if allow_pickle:
        yield
        return
    import torch

    library: Any = torch
    guard = frozenset(t.ident for t in threading.enumerate()) - {threading.get_ident()}
    with _lock:
        if not _guards:
            _torch_load, library.load = library.load, _refuse
        _guards.append(guard)
    try:
        yield
    finally:
        with _lock:
            _guards.remove(guard)
            if not _guards and library.load is _refuse:
                library.load = _torch_load


def refused(error: BaseException | None) -> Refused | None:
    """What was refused, where ``error`` came of it."""
    for _ in range(10):
        if error is None or isinstance(error, Refused):
            return error
        error = error.__cause__ or error.__context__
    return None


def _refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
    here = threading.get_ident()
    if all(here in others for others in tuple(_guards)):
        return _torch_load(file, *args, **kwargs)
    raise Refused(str(file))
