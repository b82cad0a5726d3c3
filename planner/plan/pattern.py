"""Regular expressions of a plan: as Python's ``re`` reads them, searched within a bounded time.

A pattern such as ``(x+x+)+y`` takes exponential time of a name that nearly fits, in any engine that
backtracks. The ``regex`` library has re's syntax and stops at a deadline; re itself cannot be stopped, and
RE2 has no lookaround, which people who write ``match`` know from re.
"""

from __future__ import annotations

import re
from functools import lru_cache
from time import process_time
from typing import Any

import regex

from planner.source.limits import SECONDS

_FREE = 20e-6
"""Seconds that a search may take without being counted: a usual one takes a tenth of it."""

PROBES = (
    "transformer_blocks.10.attn.processor.to_out.0.linear_with_a_long_name",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora_A.default_0",
    *(f"{letter * 60}!" for letter in "ax0_"),
    "a0." * 20 + "!",
    "a_b." * 15 + "!",
)
"""Names as modules have them, and what usually shows a pattern that takes too long."""


class TooSlow(Exception):
    """A pattern took longer than SECONDS of the processor's time."""

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self.pattern = pattern


class Searches:
    """Searches that together end within SECONDS."""

    def __init__(self) -> None:
        self._left = float(SECONDS.most)
        self._known: dict[tuple[str, str], bool] = {}

    def found(self, pattern: str, name: str) -> bool:
        """Whether ``pattern`` is found in ``name``. Raises TooSlow."""
        key = (pattern, name)
        if key not in self._known:
            self._known[key] = self._search(pattern, name)
        return self._known[key]

    def _search(self, pattern: str, name: str) -> bool:
        before = process_time()
        try:
            hit = _compiled(pattern).search(name, timeout=self._left) is not None
        except TimeoutError:
            raise TooSlow(pattern) from None
        self._left -= max(0.0, process_time() - before - _FREE)
        if self._left <= 0:
            raise TooSlow(pattern)
        return hit


def fault_of(pattern: str) -> str:
    """Why ``pattern`` is no regular expression, in re's words; nothing where it is one."""
    try:
        re.compile(pattern)
        _compiled(pattern)
    except (re.error, regex.error) as error:
        return str(error.msg)
    except (OverflowError, RecursionError, MemoryError) as error:
        return f"it is too large ({type(error).__name__})"
    return ""


def is_slow(pattern: str) -> bool:
    """Whether it takes too long of one of PROBES already."""
    searches = Searches()
    try:
        for name in PROBES:
            searches.found(pattern, name)
    except TooSlow:
        return True
    return False


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)
