"""The lines of the runtime as they are executed: counted, or made to fail at one of them."""

from __future__ import annotations

import dis
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import planner

ROOT = str(Path(planner.__file__).parent) + "/"
ROOMS = tuple(f"{ROOT}{room}/" for room in ("session", "streaming", "host", "device", "forms"))

Line = tuple[str, int]
"""A file under ``planner``, and its line."""


class Lines:
    """A trace function. ``due`` is told of each line and says whether it is to fail."""

    def __init__(self, due: Callable[[Line], bool], error: Callable[[], BaseException], only: Line | None):
        """``only``: the line of which alone ``due`` wants to hear."""
        self._due = due
        self._error = error
        self._only = only
        self.struck: Line | None = None

    def __enter__(self) -> Lines:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def start_here(self) -> None:
        """From now on, in the functions that are running too."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if is_ours(frame.f_code):
                frame.f_trace = self._line
            frame = frame.f_back
        sys.settrace(self._called)

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        wanted = is_ours(code) if self._only is None else self._only in lines_of(code)
        return self._line if wanted and self.struck is None else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event != "line" or self.struck is not None or frame.f_lasti in _unreachable(frame.f_code):
            return self._line
        line = (frame.f_code.co_filename.removeprefix(ROOT), frame.f_lineno)
        if (self._only is None or line == self._only) and self._due(line):
            self.struck = line
            raise self._error()
        return self._line


def counting(counts: Counter[Line]) -> Lines:
    """Fails nowhere."""

    def count(line: Line) -> bool:
        counts[line] += 1
        return False

    return Lines(count, RuntimeError, None)


def failing(line: Line | None, nth: int, error: Callable[[], BaseException]) -> Lines:
    """At the ``nth`` hit of ``line``; of any line where it is None."""
    left = [nth]

    def due(_: Line) -> bool:
        left[0] -= 1
        return not left[0]

    return Lines(due, error, line)


@cache
def is_ours(code: CodeType) -> bool:
    """Whether it is of the runtime."""
    return code.co_filename.startswith(ROOMS)


@cache
def lines_of(code: CodeType) -> frozenset[Line]:
    """Of a function of ours."""
    if not is_ours(code):
        return frozenset()
    name = code.co_filename.removeprefix(ROOT)
    return frozenset((name, line) for *_, line in code.co_lines() if line is not None)


@cache
def _unreachable(code: CodeType) -> frozenset[int]:
    """Where Python says that a line begins, and no signal's handler and no error of memory can come: at what
    does nothing (``try:``), and between the last instruction of a ``with`` and the call of its ``__exit__``.
    A trace function can raise there, past the exception table, and the lock of a ``with`` would then stay:
    that would be a fault of this harness."""
    found = set()
    steps = [*dis.get_instructions(code)]
    for at, step in enumerate(steps):
        rest = [s.opname for s in steps[at : at + 8] if s.opname not in ("CACHE", "PRECALL")]
        values = [s.argval for s in steps[at : at + 3]]
        if step.opname == "NOP":
            found.add(step.offset)
        leaves = rest[:4] == [*["LOAD_CONST"] * 3, "CALL"] and values == [None] * 3
        if leaves or rest[:2] == ["PUSH_EXC_INFO", "WITH_EXCEPT_START"]:
            found.add(step.offset)
            before = at - 1
            while before >= 0 and steps[before].opname in ("SWAP", "NOP", "COPY", "POP_TOP"):
                found.add(steps[before].offset)
                before -= 1
    return frozenset(found)
