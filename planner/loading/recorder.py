"""What one call does over time, as it happens: uses, copies and memory, each with its moment.

Times are the device's own where it keeps any (two marks a use, two a copy, read when the call is over), else
the host's. Memory is sampled where something changes; from one sample to the next it is the most that was
held between the two, by the meter. Only a call that is recorded pays for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import torch

from planner.loading.meter import Meter
from planner.predict.forecast import Forecast, Interval, Lane, Sample, UseForecast
from planner.schedule.card import Card
from planner.session.session import Session
from planner.target.model import device_bytes

HOST_CLOCK = "the device keeps no time of its own: times are those of the host, which queues"
SIMULATED_CLOCK = "a virtual accelerator: times are those of its simulation, and no card's"
WAITS = "waits for copies are part of a use's seconds and are not told apart in a measured call"
TOGETHER = 50
"""Microseconds: copies of one component that follow each other within them are drawn as one."""


@dataclass(slots=True)
class _Span:
    lane: Lane
    name: str
    stage: str
    component: str
    entry: str
    start: Any
    end: Any = None
    bytes: int = 0
    held: int = 0
    kept: int = 0


class Recorder:
    """Of one call. ``card``: the device as it was before, by which the driver's figure is told from what
    other processes hold; None where nothing says."""

    def __init__(self, session: Session, meter: Meter, card: Card | None = None) -> None:
        """Records nothing yet."""
        self._session = session
        self._device: Any = session.device
        self._meter = meter
        self._others = max(0, (card.total or 0) - (card.free or 0)) if card is not None else 0
        self._spans: list[_Span] = []
        self._open: dict[str, _Span] = {}
        self._samples: list[tuple[Any, Sample]] = []
        self._zero: Any = None
        self._ended: Any = None
        self._marks = False
        self._last: Any = None
        self._weights = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The call runs inside, and the meter has started. The device and the session are as they were
        afterwards."""
        applied, device = self._session.applied, self._device
        mark = device.mark()
        self._marks = mark is not None
        self._zero = self._last = mark if self._marks else time.perf_counter()
        self._weights = device.own
        before, copy = device.__dict__.get("copy"), device.copy

        def copied(piece: Any, offset: int, source: torch.Tensor) -> None:
            start = self._now("copy")
            copy(piece, offset, source)
            self._copied(str(getattr(piece, "label", "")), start, source.numel())

        applied.observers.append(self.observe)
        device.copy = copied
        try:
            yield
        finally:
            if before is None:
                del device.copy
            else:
                device.copy = before
            applied.observers.remove(self.observe)
            self._meter.stop()
            self._ended = self._now()
            for name in [*self._open]:
                self._close(name)
            self._sample(self._ended)

    def observe(self, what: str, name: str) -> None:
        """As a session says it, and after the meter."""
        now = self._now()
        self._sample(now)
        if what == "use":
            event = self._session.applied.record.events[-1]
            used = event.entry or "forward"
            self._open[name] = _Span("compute", name, event.stage, name, used, now)
            self._spans.append(self._open[name])
        elif what == "end" and name in self._open:
            self._close(name, now)

    def forecast(self) -> Forecast:
        """What was recorded, once ``recording`` is left; the host waits for the device."""
        at = self._since
        intervals = _together(
            Interval(
                lane=span.lane,
                name=span.name,
                stage=span.stage,
                component=span.component,
                start=at(span.start),
                end=max(at(span.start), at(span.end)),
                bytes=span.bytes,
            )
            for span in self._spans
        )
        samples = tuple(_in_order(replace(sample, at=at(moment)) for moment, sample in self._samples))
        seconds = at(self._ended) / 1e6
        notes = [] if self._marks else [SIMULATED_CLOCK if self._device.name.type == "sim" else HOST_CLOCK]
        return Forecast(
            uses=tuple(self._uses()),
            intervals=intervals,
            samples=samples,
            peak=max((sample.driver for sample in samples), default=0),
            seconds=seconds,
            first=seconds,
            source="measured",
            notes=(*notes, WAITS),
        )

    def _uses(self) -> Iterator[UseForecast]:
        at = self._since
        found: dict[tuple[str, str, str], list[_Span]] = {}
        for span in self._spans:
            if span.lane == "compute":
                found.setdefault((span.stage, span.component, span.entry), []).append(span)
        for (stage, component, entry), spans in found.items():
            reserved = max(span.kept for span in spans)
            yield UseForecast(
                stage=stage,
                component=component,
                entry=entry,
                times=len(spans),
                allocated=max(span.held for span in spans),
                reserved=reserved,
                needed=reserved,
                seconds=sum(max(0, at(span.end) - at(span.start)) for span in spans) / 1e6,
                waits=nan,
                source="measured",
            )

    def _now(self, lane: Lane = "compute") -> Any:
        return self._device.mark(lane) if self._marks else time.perf_counter()

    def _since(self, moment: Any) -> int:
        """Microseconds from the start."""
        seconds: float = self._device.between(self._zero, moment) if self._marks else moment - self._zero
        return max(0, round(seconds * 1e6))

    def _copied(self, component: str, start: Any, nbytes: int) -> None:
        events = self._session.applied.record.events
        stage = events[-1].stage if events else ""
        padded = device_bytes([nbytes])  # as what was moved is counted, everywhere else
        span = _Span("copy", component, stage, component, "", start, self._now("copy"), padded)
        self._spans.append(span)

    def _close(self, name: str, now: Any = None) -> None:
        self._open.pop(name).end = self._ended if now is None else now

    def _sample(self, now: Any) -> None:
        """From the last moment until ``now``: the most that was held."""
        device, own = self._device, self._device.own
        weights, uncounted = max(self._weights, own), device.uncounted
        reserved_now = device.reserved()
        if self._meter.stretch is None:
            allocated = reserved = max(0, reserved_now - own)
        else:
            base, allocated, reserved = self._meter.stretch
            spare = max(0, uncounted - own)
            # Pieces are in torch's counters, or beside them.
            beside = base or uncounted
            allocated = allocated - base if beside else max(0, allocated - weights)
            reserved = reserved - base + spare if beside else max(allocated, reserved - weights)
        driver = weights + reserved + self._context(reserved_now)
        residency = self._session.applied.state.residency
        sample = Sample(
            at=0,
            weights=weights,
            allocated=allocated,
            reserved=reserved,
            driver=driver,
            pinned=residency.pins.nbytes,
            host=sum(host.nbytes for c in residency.components.values() for host in c.layouts),
        )
        self._samples.append((self._last, sample))
        for span in self._open.values():
            span.held, span.kept = max(span.held, allocated), max(span.kept, reserved)
        self._last, self._weights = now, own

    def _context(self, reserved: int) -> int:
        """What the driver shows for this process beside what is allocated."""
        query = getattr(torch.get_device_module(self._device.name), "mem_get_info", None)
        if query is None or self._device.name.type == "sim":
            return 0
        free, total = query(self._device.name)
        return max(0, int(total) - int(free) - self._others - reserved)


def _in_order(samples: Iterator[Sample]) -> Iterator[Sample]:
    """One for each moment, with the most of all that it has."""
    last: Sample | None = None
    for sample in samples:
        if last is not None and sample.at <= last.at:
            fields = ("weights", "allocated", "reserved", "driver", "pinned", "host")
            last = replace(last, **{f: max(getattr(last, f), getattr(sample, f)) for f in fields})
            continue
        if last is not None:
            yield last
        last = sample
    if last is not None:
        yield last


def _together(intervals: Iterator[Interval]) -> tuple[Interval, ...]:
    found: list[Interval] = []
    for interval in sorted(intervals, key=lambda i: (i.lane, i.start, i.end)):
        last = found[-1] if found else None
        if (
            last is not None
            and interval.lane == last.lane == "copy"
            and (interval.component, interval.stage) == (last.component, last.stage)
            and interval.start - last.end <= TOGETHER
        ):
            found[-1] = replace(last, end=max(last.end, interval.end), bytes=last.bytes + interval.bytes)
        else:
            found.append(interval)
    return tuple(sorted(found, key=lambda i: (i.start, i.end, i.lane)))
