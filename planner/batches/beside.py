"""A step beside the thread that asks for it, in a thread that the end of the process does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def beside(step: Callable[[], _T]) -> Future[_T]:
    """``step`` begins now; the future has what it returns or raises.

    A pool's threads are joined when Python ends: an interrupt would wait for a video to be encoded.
    """
    ended: Future[_T] = Future()

    def run() -> None:
        try:
            made = step()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(made)

    threading.Thread(target=run, name="offload-plan writer", daemon=True).start()
    return ended
