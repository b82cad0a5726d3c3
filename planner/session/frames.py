"""References that an exception on its way keeps: the frames of what it was raised in, with their locals."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parents[1])


def release_locals() -> None:
    """Of this package's own frames that an exception on its way has left. Where one was interrupted while it
    bound weights, its locals refer to them, and memory that is referred to is not freed. Others' frames stay
    as they are: a debugger may want them."""
    for error in _chain(sys.exc_info()[1]):
        _clear(error.__traceback__)


def release_all_locals(error: BaseException, outer: BaseException | None) -> None:
    """Of every frame that ``error`` has left, and those that it was raised while handling, up to ``outer``,
    which was being handled before: the activations of a call that is to be made once more."""
    for left in _chain(error, outer):
        traceback.clear_frames(left.__traceback__)


def drop_frames(error: BaseException, outer: BaseException | None) -> None:
    """The frames themselves, of the same errors: what a local function closes over is not among the locals of
    its frame, and an error that is kept (by a log, a debugger) would keep it. Of errors that nobody else is
    to see: their tracebacks are gone."""
    for left in _chain(error, outer):
        left.__traceback__ = None


def _chain(error: BaseException | None, outer: BaseException | None = None) -> Iterator[BaseException]:
    """``error``, and those that it was raised while handling, up to ``outer``."""
    while error is not None and error is not outer:
        yield error
        error = error.__context__


def _clear(trace: TracebackType | None) -> None:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(_OURS):
            with suppress(RuntimeError):  # it is still running
                trace.tb_frame.clear()
        trace = trace.tb_next
