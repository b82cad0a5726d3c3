"""The order of work on two lanes, as vector clocks.

Each lane counts what is queued on it and knows how far it has waited for the other. An event is a
copy of that knowledge; waiting for it takes the greater of both, so waits carry over.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.device.protocol import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class SimEvent:
    """How far each lane was when the event was recorded, as the recording lane knew."""

    compute: int
    copy: int

    def of(self, lane: Lane) -> int:
        """The position on ``lane``."""
        return self.compute if lane == "compute" else self.copy


class Clocks:
    """Who has waited for what."""

    def __init__(self) -> None:
        self._known: dict[Lane, dict[Lane, int]] = {
            "compute": {"compute": 0, "copy": 0},
            "copy": {"compute": 0, "copy": 0},
        }

    def tick(self, lane: Lane) -> int:
        """Queue something on ``lane``; its position."""
        self._known[lane][lane] += 1
        return self._known[lane][lane]

    def knows(self, lane: Lane, other: Lane) -> int:
        """Up to which position of ``other`` whatever is queued on ``lane`` next comes after."""
        return self._known[lane][other]

    def record(self, lane: Lane) -> SimEvent:
        """An event after everything that is queued on ``lane``."""
        return SimEvent(compute=self._known[lane]["compute"], copy=self._known[lane]["copy"])

    def wait(self, lane: Lane, event: SimEvent) -> None:
        """``lane`` goes on after ``event``."""
        mine = self._known[lane]
        for other in ("compute", "copy"):
            mine[other] = max(mine[other], event.of(other))
