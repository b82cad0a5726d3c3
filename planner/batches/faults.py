"""Rows during which the process ended with a fault of its own: a wrong address, and no kill from outside."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def faults_to(path: Path) -> Iterator[None]:
    """A fault inside (SIGSEGV, SIGBUS, SIGFPE, SIGABRT) leaves in ``path`` where Python was; else the file is
    gone afterwards, or empty where the process was killed. Raises OSError."""
    enabled = faulthandler.is_enabled()
    with open(path, "wb") as file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            if enabled and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)
    path.unlink(missing_ok=True)  # the row's record took it along


def faulted(path: Path) -> bool:
    """Whether a process left something there."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
