"""How a batch is asked to end: after the rows that run, or now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """``asked``: no row is started any more; ``interrupted``: somebody asked, and no row that failed;
    ``also``: how an engine is told whose workers do not see this."""

    def __init__(self) -> None:
        self.asked = self.interrupted = False
        self.also: Callable[[], None] = lambda: None

    def ask(self) -> None:
        """No row is started from here on."""
        self.asked = True
        self.also()


@contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[Stop]:
    """An interrupt or SIGTERM asks the batch to end after the rows that run; a second one raises
    KeyboardInterrupt. In another thread than the main one, Python gives no signals."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(number: int, frame: Any) -> None:
        if stop.interrupted:
            raise KeyboardInterrupt
        stop.interrupted = True
        stop.ask()
        tell("ends after the rows that run; once more ends it now")

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
