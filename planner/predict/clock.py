"""A call's time, without a device: the host that hands out work, the device that computes, the link that
copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from planner.cards.data import CardData
from planner.predict.forecast import Interval

MICRO = 1e6
TOGETHER = 50
"""Microseconds: copies of one component that follow each other within them are one interval."""


BUSY = 0.93
"""Of a link's rate for one large copy, what a component's blocks reach one after the other: 33.8 GB of Flux'
crossed at 51.7 GB/s on an H100 and the H200's link gives 55.5."""
MAPPING, UNMAPPING = 0.12e-12, 0.7e-12
"""Seconds of the host for a byte of device memory that is mapped, and unmapped: 1.3 and 7.5 ms for 10 GiB, as
measured for ``planner.device.memory``."""


COMPUTES: Final = 0
WAITS: Final = 1
HANDLES: Final = 2
RAN: Final = 3
COPIES: Final = 4
Deed = (
    tuple[Literal[0], float, float]
    | tuple[Literal[1], int]
    | tuple[Literal[2], float]
    | tuple[Literal[3]]
    | tuple[Literal[4], int, bool, int, bool]
)
"""Something that a forward does. ``COMPUTES``, seconds and operations; ``WAITS`` for a block; ``HANDLES``, as
many operations' time; ``RAN``: what comes later over what ran may come from now on; ``COPIES`` a block,
whether over what ran, bytes, whether they are registered."""


Lanes = tuple[float, float, float]
"""Of the host, the computing and the copies, in seconds."""


@dataclass(slots=True)
class Clock:
    """``host``, ``compute``, ``copy``: seconds from the start of the call until which each lane has work.

    The host runs ahead of the device, as under CUDA: what it hands out waits on the device for its turn. A
    copy from memory that is not registered holds it until it is done.
    """

    card: CardData
    drawn: bool = True
    """Whether anybody asks for its ``intervals``."""
    host: float = 0.0
    compute: float = 0.0
    copy: float = 0.0
    waited: float = 0.0
    """Seconds that computing waited for copies."""
    moved: int = 0
    stage: str = ""
    """In which the call is."""
    _copied: list[tuple[str, float, float, int]] = field(default_factory=list)
    """Copies since the mark: component, begin, end, bytes; what follows each other is one."""
    _more: int = 0
    """Bytes that were copied since the mark."""
    _intervals: list[Interval] = field(default_factory=list)
    _last: int | None = None
    """Which of them is the last copy, as it was begun; ``_until`` and ``_bytes``: what it is by now."""
    _until: int = 0
    _bytes: int = 0
    _took: dict[tuple[int, bool], float] = field(default_factory=dict)

    def computes(self, seconds: float, operations: float) -> None:
        """``operations`` that take so many ``seconds`` of the device: it is kept busy, or the host is."""
        begin = max(self.compute, self.host)
        self.host += operations * self.card.dispatch
        self.compute = max(begin + seconds, self.host)

    def copies(self, component: str, nbytes: int, after: float, *, pinned: bool) -> float:
        """Bytes to the device, once its compute lane was at ``after``. Returns when they are there."""
        begin = max(self.copy, self.host, after)
        self.copy = begin + self._takes(nbytes, pinned=pinned)
        self.moved += nbytes
        self._more += nbytes
        if not pinned:
            self.host = self.copy
        if self.drawn:
            self._draw(component, begin, self.copy, nbytes)
            name, start, end, more = self._copied[-1] if self._copied else ("", 0.0, 0.0, 0)
            if name == component and begin - end <= TOGETHER / MICRO:
                self._copied[-1] = (name, start, self.copy, more + nbytes)
            else:
                self._copied.append((component, begin, self.copy, nbytes))
        return self.copy

    def waits(self, until: float) -> None:
        """Computing goes on ``until`` then at the earliest."""
        if until > self.compute:
            self.waited += until - max(self.compute, self.host) if until > self.host else 0.0
            self.compute = until

    def handles(self, operations: float) -> None:
        """The host is busy for as long as it takes to hand out so many operations."""
        self.host += operations * self.card.dispatch

    def does(self, component: str, deeds: Sequence[Deed], arrivals: dict[int, float], ran: float) -> float:
        """One after the other, as the methods above do each. ``arrivals``: when each block of ``component``
        is there that was not waited for; ``ran``: until when what is written over ran, which is returned as
        it is then."""
        dispatch, host, compute = self.card.dispatch, self.host, self.compute
        for deed in deeds:
            if deed[0] == COMPUTES:
                begin = compute if compute >= host else host
                host += deed[2] * dispatch
                compute = begin + deed[1]
                if host > compute:
                    compute = host
            elif deed[0] == WAITS:
                until = arrivals.pop(deed[1], 0.0)
                if until > compute:
                    self.waited += until - max(compute, host) if until > host else 0.0
                    compute = until
            elif deed[0] == HANDLES:
                host += deed[1] * dispatch
            elif deed[0] == RAN:
                ran = compute
            else:
                _, index, over, nbytes, pinned = deed
                self.host = host
                arrivals[index] = self.copies(component, nbytes, ran if over else 0.0, pinned=pinned)
                host = self.host
        self.host, self.compute = host, compute
        return ran

    def maps(self, nbytes: int) -> None:
        """Bytes of device memory come."""
        self.host += nbytes * MAPPING

    def unmaps(self, nbytes: int, after: float) -> None:
        """Bytes of device memory go, once what ran there, until ``after``, is over: the host waits for it."""
        if nbytes:
            self.host = max(self.host, after) + nbytes * UNMAPPING

    def mark(self) -> None:
        """What is done from now on may be done again."""
        self._copied.clear()
        self._more = 0

    def again(self, step: Lanes, waited: float) -> None:
        """What was done since the mark is done once more: each lane (host, compute, copy) goes on by
        ``step``, and the copies come as much later as the last one ends."""
        host, compute, copy = step
        self.host, self.compute, self.copy = self.host + host, self.compute + compute, self.copy + copy
        self.waited += waited
        self.moved += self._more
        self._copied = [(name, begin + copy, end + copy, nbytes) for name, begin, end, nbytes in self._copied]
        for name, begin, end, nbytes in self._copied:
            self._draw(name, begin, end, nbytes)

    @property
    def lanes(self) -> Lanes:
        """Host, compute, copy."""
        return self.host, self.compute, self.copy

    @property
    def now(self) -> float:
        """When all that was handed out is done."""
        return max(self.host, self.compute, self.copy)

    def used(self, component: str, entry: str, begin: float, end: float) -> None:
        """``component`` computed from ``begin`` to ``end``."""
        if not self.drawn:
            return
        self._intervals.append(
            Interval(
                lane="compute",
                name=f"{component}.{entry}" if entry else component,
                stage=self.stage,
                component=component,
                start=micros(begin),
                end=micros(end),
            )
        )

    def intervals(self) -> list[Interval]:
        """Uses and copies, in the order in which they were handed out; none where it is not ``drawn``."""
        self._close()
        return self._intervals

    def _takes(self, nbytes: int, *, pinned: bool) -> float:
        key = nbytes, pinned
        if key not in self._took:
            self._took[key] = self.card.copy_seconds(nbytes, pinned=pinned) / BUSY
        return self._took[key]

    def _draw(self, component: str, begin: float, end: float, nbytes: int) -> None:
        start, stop = micros(begin), micros(end)
        last = None if self._last is None else self._intervals[self._last]
        same = last is not None and (last.component, last.stage) == (component, self.stage)
        if same and start - self._until <= TOGETHER:
            self._until, self._bytes = stop, self._bytes + nbytes
            return
        self._close()
        self._last, self._until, self._bytes = len(self._intervals), stop, nbytes
        self._intervals.append(
            Interval(
                lane="copy",
                name=component,
                stage=self.stage,
                component=component,
                start=start,
                end=stop,
                bytes=nbytes,
            )
        )

    def _close(self) -> None:
        if self._last is not None:
            last = self._intervals[self._last]
            self._intervals[self._last] = replace(last, end=self._until, bytes=self._bytes)


def micros(seconds: float) -> int:
    """As forecasts have it."""
    return round(seconds * MICRO)
