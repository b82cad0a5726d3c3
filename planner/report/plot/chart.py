"""What is drawn: a predicted call, a measured one, or both over each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.predict.forecast import Forecast, Interval, Sample

LANES = ("compute", "copy", "host")


@dataclass(frozen=True, slots=True)
class Level:
    """A line over time: ``key`` in data, ``name`` for people, and its ``bytes`` by a sample."""

    key: str
    name: str
    bytes: Callable[[Sample], int]


DEVICE = (
    Level("driver", "driver", lambda s: s.driver),
    Level("reserved", "reserved", lambda s: s.weights + s.reserved),
    Level("allocated", "allocated", lambda s: s.weights + s.allocated),
    Level("weights", "weights", lambda s: s.weights),
)
"""On the device, each with those below it, so that they can be painted in this order."""
HOST = (Level("host", "host", lambda s: s.host), Level("pinned", "pinned", lambda s: s.pinned))
LEVELS = (*DEVICE, *HOST)


@dataclass(frozen=True, slots=True)
class Band:
    """A stage at work, in microseconds of the call."""

    stage: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``plan``: its name; ``device``: in words; ``budget``: bytes that the driver may show for the process,
    None where nothing limits it. One of ``predicted`` and ``measured`` is there, or both."""

    plan: str
    pipeline: str
    device: str = ""
    budget: int | None = None
    predicted: Forecast | None = None
    measured: Forecast | None = None

    @property
    def runs(self) -> Iterator[tuple[str, Forecast]]:
        """Those that are there, by name."""
        for name, run in (("predicted", self.predicted), ("measured", self.measured)):
            if run is not None:
                yield name, run


def end_of(run: Forecast) -> int:
    """Microseconds from the start of the call to the last thing in it; 1 at least, so that it has a width."""
    ends = (interval.end for interval in run.intervals)
    return max(1, *ends, *(sample.at for sample in run.samples), round(run.seconds * 1e6))


def bands_of(run: Forecast) -> tuple[Band, ...]:
    """Stages as they follow each other, by what computes: each until the next one begins to."""
    computing = [i for i in run.intervals if i.lane == "compute" and i.stage]
    found: list[Band] = []
    for interval in sorted(computing, key=lambda i: (i.start, i.end)):
        if found and found[-1].stage == interval.stage:
            found[-1] = Band(interval.stage, found[-1].start, max(found[-1].end, interval.end))
        else:
            found.append(Band(interval.stage, interval.start, interval.end))
    return tuple(found)


def lanes_of(run: Forecast) -> tuple[str, ...]:
    """Lanes with something in them."""
    used = {interval.lane for interval in run.intervals}
    return tuple(lane for lane in LANES if lane in used)


def intervals_in(run: Forecast, lane: str) -> list[Interval]:
    """Of one lane, by their start."""
    return sorted((i for i in run.intervals if i.lane == lane), key=lambda i: (i.start, i.end, i.name))


def peak_within(run: Forecast, start: int, end: int, level: Level) -> int:
    """The most bytes of ``level`` from ``start`` until ``end``; a sample holds until the next."""
    most = 0
    for number, sample in enumerate(run.samples):
        until = run.samples[number + 1].at if number + 1 < len(run.samples) else None
        if sample.at < max(end, start + 1) and (until is None or until > start):
            most = max(most, level.bytes(sample))
    return most
