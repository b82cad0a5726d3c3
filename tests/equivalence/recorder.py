"""What came to the virtual accelerator and what went, as its own memory meter counts it.

No hook is asked, neither diffusers' nor ours: every component has a size of its own, and a block of that
size taken or given back is that component coming or leaving.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping

from planner.virtual.memory import METER


class Recorder:
    """Writes down ``+component`` and ``-component`` in the order in which memory was taken and given."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._names = {nbytes: name for name, nbytes in sizes.items()}
        self._events: list[str] = []

    def __enter__(self) -> Recorder:
        gc.collect()
        METER.take = self._took  # type: ignore[method-assign]
        METER.give = self._gave  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del METER.take, METER.give

    def cut(self) -> list[str]:
        """The events since the last cut."""
        found, self._events = self._events, []
        return found

    def _took(self, nbytes: int, *, piece: bool = False) -> None:
        type(METER).take(METER, nbytes, piece=piece)
        self._note("+", nbytes)

    def _gave(self, nbytes: int, *, piece: bool = False) -> None:
        type(METER).give(METER, nbytes, piece=piece)
        self._note("-", nbytes)

    def _note(self, sign: str, nbytes: int) -> None:
        if nbytes:
            self._events.append(sign + self._names.get(nbytes, f"{nbytes} bytes"))
