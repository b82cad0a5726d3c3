"""Bytes for people, in one unit a table so that a column can be compared by eye."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Unit:
    """``GiB`` and its bytes."""

    name: str
    size: int

    def number(self, nbytes: int | None) -> str:
        """Without the unit's name: ``0.23``, ``423.7``; ``?`` for what is not known."""
        if nbytes is None:
            return UNKNOWN
        value = nbytes / self.size
        if self.size == 1:
            return str(nbytes)
        return f"{value:.1f}" if value >= 100 else f"{value:.2f}"

    def moves(self, nbytes: int | None, each_step: int) -> str:
        """What crosses: ``0.23``; ``0.23 + 14.77 a step`` where nobody has said how many steps there are."""
        each = f" + {self.number(each_step)} a step" if each_step else ""
        return self.number(nbytes) + each

    def text(self, nbytes: int | None) -> str:
        """With it: ``0.23 GiB``."""
        return UNKNOWN if nbytes is None else f"{self.number(nbytes)} {self.name}"


def unit_for(sizes: Iterable[int | None]) -> Unit:
    """The largest unit of which the largest size has at least one; GiB when nothing is known."""
    most = max((size for size in sizes if size is not None), default=None)
    if most is None:
        return Unit(*UNITS[0])
    return next((Unit(name, size) for name, size in UNITS if most >= size), Unit(*UNITS[-1]))
