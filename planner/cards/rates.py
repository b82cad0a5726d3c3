"""Tables of measured points, and what is between them."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

NEAREST = 4
"""Points of several dimensions that a value between them is made of."""


@dataclass(frozen=True, slots=True)
class Table:
    """``points``: sizes (one number, or an operation's shape), and the rate that was measured there, a
    second.

    Between points rates are interpolated in the logarithms of sizes and rates: between two neighbours where
    a size is one number, else as the mean of the nearest, weighted by the inverse square of their distance;
    outside of them the nearest point's rate holds.
    """

    points: tuple[tuple[tuple[float, ...], float], ...]
    _logs: tuple[tuple[tuple[float, ...], float], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        logs = sorted((tuple(map(_log, sizes)), math.log(rate)) for sizes, rate in self.points)
        object.__setattr__(self, "_logs", tuple(logs))

    @property
    def width(self) -> int:
        """How many numbers a size has."""
        return len(self.points[0][0])

    def at(self, sizes: tuple[float, ...], *, by_last: bool = False) -> float:
        """The rate at ``sizes``, which has ``width`` numbers. ``by_last``: of points that share the last of
        them alone, where there are any: it chooses the kernel, as an attention's head dimension does."""
        logs = tuple(map(_log, sizes))
        return math.exp(self._line(logs[0]) if self.width == 1 else self._near(logs, by_last=by_last))

    def _line(self, size: float) -> float:
        logs = self._logs
        i = bisect_left(logs, ((size,), -math.inf))
        if i == 0:
            return logs[0][1]
        if i == len(logs):
            return logs[-1][1]
        ((low,), before), ((high,), after) = logs[i - 1], logs[i]
        return before + (after - before) * (size - low) / (high - low)

    def _near(self, sizes: tuple[float, ...], *, by_last: bool) -> float:
        alike = [one for one in self._logs if one[0][-1] == sizes[-1]] if by_last else []
        near = sorted((math.dist(sizes, point), rate) for point, rate in alike or self._logs)[:NEAREST]
        if near[0][0] < 1e-9:
            return near[0][1]
        weights = [distance**-2 for distance, _ in near]
        return sum(w * rate for w, (_, rate) in zip(weights, near, strict=True)) / sum(weights)


def _log(size: float) -> float:
    return math.log2(size) if size > 1 else 0.0
