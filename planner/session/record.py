"""What happened in one call: moves, uses, departures, seconds a stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["load", "evict", "use"]


@dataclass(frozen=True, slots=True)
class Event:
    """One move or use, as it happened. ``bytes`` is the component's on the device."""

    do: EventKind
    component: str
    entry: str
    stage: str
    bytes: int


@dataclass(slots=True)
class Record:
    """One call of the pipeline, or one use outside of a call.

    ``moved`` counts bytes host to device; ``peak`` the most bytes of weights on the device at once;
    ``seconds`` a stage, from its first use to the next stage's first.
    """

    events: list[Event] = field(default_factory=list)
    departures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    moved: int = 0
    peak: int = 0
    total: float = 0.0
    _stage: str = ""
    _since: float = field(default_factory=time.perf_counter)
    _started: float = field(default_factory=time.perf_counter)

    def at_stage(self, stage: str) -> bool:
        """True when this use begins another stage; the one before it ends here."""
        if stage == self._stage:
            return False
        self._close()
        self._stage = stage
        return True

    def finish(self) -> None:
        """The call is over."""
        self._close()
        self.total = time.perf_counter() - self._started

    def _close(self) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._since = now
