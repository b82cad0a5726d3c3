"""What a call will do, moment by moment: the artefact that tables, plots and traces are made of.

A run that was measured makes the same artefact, so that both can be drawn over each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Lane = Literal["compute", "copy", "host"]
Source = Literal["measured", "predicted", "assumed", "not known"]
"""Where a number comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Something that takes time. ``start`` and ``end``: microseconds from the start of the call; ``bytes``:
    that a copy moves; ``stage`` and ``component``: of the plan."""

    lane: Lane
    name: str
    stage: str
    component: str
    start: int
    end: int
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Memory from ``at`` (microseconds) until the next sample, in bytes: ``weights`` on the device, those
    ``allocated`` and ``reserved`` by torch's allocator beside them, and what the ``driver`` shows for the
    process; on the host ``pinned`` memory and all that the weights take there (``host``)."""

    at: int
    weights: int
    allocated: int
    reserved: int
    driver: int
    pinned: int = 0
    host: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UseForecast:
    """One component's entry in one stage. ``times``: in a call; bytes beside the weights: ``allocated`` and
    ``reserved`` at its peak, ``needed`` of the latter if libraries do without what scratch they can;
    ``seconds``: of all its ``times`` together; ``waits``: of these, for copies; NaN where that
    is not known."""

    stage: str
    component: str
    entry: str
    times: int
    allocated: int
    reserved: int
    needed: int
    seconds: float
    waits: float
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a whole call comes to, its first (``first``: seconds with what only a first call does) or a later
    one (``seconds``). ``peak``: bytes that the driver shows at most; ``moved``: bytes that are copied to the
    device; ``fits``: no allocation finds too little, so that none is tried again and no library takes another
    kernel; ``short``: components for whose weights the budget has no room."""

    peak: int
    seconds: float
    first: float
    moved: int = 0
    fits: bool = True
    short: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Outcome):
    """A whole call, moment by moment. ``source``: of the weakest number in it; ``load`` and ``apply``:
    seconds that loading the pipeline and applying the plan take before the first call, None where they are
    not known (``planner.predict.start`` says why)."""

    uses: tuple[UseForecast, ...]
    intervals: tuple[Interval, ...]
    samples: tuple[Sample, ...]
    source: Source
    load: float | None = None
    apply: float | None = None
    notes: tuple[str, ...] = ()
