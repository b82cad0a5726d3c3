"""What a device or a session does with bytes for itself, which is no use of weights by a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_depth: ContextVar[int] = ContextVar("own_work", default=0)


@contextmanager
def own_work() -> Iterator[None]:
    """Around such work: an auditor does not take it for the call's."""
    token = _depth.set(_depth.get() + 1)
    try:
        yield
    finally:
        _depth.reset(token)


def in_own_work() -> bool:
    """Whether what runs now is such work."""
    return _depth.get() > 0
