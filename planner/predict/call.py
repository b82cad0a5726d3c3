"""A traced call under a schedule, played: what is on the device when, and how long it takes. No torch.

The walk is followed by the ``Guide`` that a session follows, room for activations is kept by the same
``ActivationEstimate``, and what each use allocates goes through a model of torch's allocator. What a session
decides per use (``planner.session.device_state``) is said once more here, for one pipeline that has the
device for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from planner.cards.data import CardData
from planner.graph.flow import in_room
from planner.graph.model import Graph, Placement
from planner.graph.split import Split
from planner.plan.model import Idle
from planner.predict.allocator import Block, NoRoom
from planner.predict.clock import Clock, micros
from planner.predict.forecast import Forecast, Sample, Source, UseForecast
from planner.predict.memory import Memory, NoMemory
from planner.predict.needs import expectations
from planner.predict.pace import works
from planner.predict.profile import CallProfile, Turn, UseProfile
from planner.predict.replay import play, release
from planner.predict.streamed import FIXED, ClockWeights
from planner.schedule.estimate import ActivationEstimate
from planner.schedule.guide import Guide
from planner.schedule.model import Schedule
from planner.target.model import Blocks, ComponentInfo

SAME = 2
"""A use that was played so often beside the same bytes of weights is not played again: what it takes then
does not change any more."""


@dataclass(slots=True)
class _Component:
    """``weights`` are None while it is away."""

    name: str
    blocks: Blocks
    placement: Placement
    order: tuple[int, ...]
    pinned: bool
    weights: ClockWeights | None = None
    arrival: int = 0


@dataclass(slots=True)
class _Use:
    """What is gathered of a component's entry in a stage."""

    times: int = 0
    allocated: int = 0
    reserved: int = 0
    needed: int = 0
    seconds: float = 0.0
    waits: float = 0.0


class Player:
    """One pipeline on a card of its own. Its state goes on from call to call, as a session's does."""

    def __init__(self, graph: Graph, schedule: Schedule, call: CallProfile, card: CardData) -> None:
        """What stays is on the device already."""
        course = schedule.course
        self._schedule = schedule
        self._call = call
        self._guide = Guide(course)
        self._work = works(call, card)
        self._card = card
        self._memory = Memory(course.budget)
        self._estimate = ActivationEstimate(self._memory, course.budget)
        self._clock = Clock(card)
        self._arrivals = 0
        self._components: dict[str, _Component] = {}
        self._used: set[str] = set()
        self._samples: list[Sample] = []
        self._seen: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._uses: dict[tuple[str, str, str], _Use] = {}
        self._short: dict[str, None] = {}
        self._held: list[Block] = []
        orders = self._orders()
        pins = _pinned(graph, schedule)
        for name, placement in schedule.placements.items():
            blocks = _blocks(graph.target.components[name])
            if blocks is not None:
                one = _Component(name, blocks, placement, orders.get(name, ()), name in pins)
                self._components[name] = one
        for name, expected in expectations(call).items():
            self._estimate.expect(name, expected.nbytes, expected.signature)
        if call.workspace:
            self._memory.allocator.alloc(call.workspace)
        for name in course.fixed:
            if name in self._components:
                self._load(name)
                self._settle(name)

    def play(self) -> Forecast:
        """One call."""
        self._begin()
        retries = self._memory.retry_count()
        last = {self._call.uses[turn.use].component: at for at, turn in enumerate(self._call.turns)}
        for at, turn in enumerate(self._call.turns):
            use = self._call.uses[turn.use]
            if use.component in self._components:
                self._use(turn, use, last=at == last[use.component])
        end = self._clock.now
        self._finish()
        self._sample(end)
        return self._forecast(end, fits=self._memory.retry_count() == retries and not self._short)

    # -- a call

    def _begin(self) -> None:
        self._clock = clock = Clock(self._card)
        for component in self._components.values():
            if component.weights is not None:
                component.weights.restart(clock)
        self._guide.start()
        self._estimate.begin()
        self._used.clear()
        self._samples.clear()
        self._uses.clear()
        self._short.clear()
        self._memory.most = self._memory.held
        self._sample(0.0)

    def _finish(self) -> None:
        for name in self._guide.finish(self._resident()):
            self._evict(name)
        self._memory.release_freed()
        self._estimate.end()
        release(self._memory.allocator, self._held)
        self._held = []
        if self._schedule.course.idle is not Idle.KEEP:
            self._memory.empty_cache()

    def _use(self, turn: Turn, use: UseProfile, *, last: bool) -> None:
        name, component = use.component, self._components[use.component]
        decision = self._guide.enter(name, use.entry, self._resident())
        self._clock.stage = decision.stage
        for leaving in decision.evict:
            self._evict(leaving)
        incoming = self._incoming(name)
        self._make_room(name, incoming)
        if self._estimate.enter(name, incoming):
            self._clock.host = max(self._clock.host, self._clock.compute)
            self._memory.empty_cache()
        if incoming or component.weights is None or component.weights.partial:
            self._load(name)
        if decision.ahead is not None:
            self._load_early(*decision.ahead, beside=name)
        reserve = None
        if name not in self._used:
            reserve = self._estimate.reserve(name, use.signature)
            self._used.add(name)
            self._memory.release_freed(reserve)
        else:
            self._memory.release_freed()
        self._hold(turn.held)
        assert component.weights is not None
        self._run(decision.stage, turn, use, component.weights, last=last)
        self._estimate.observe(name)

    def _run(self, stage: str, turn: Turn, use: UseProfile, weights: ClockWeights, *, last: bool) -> None:
        clock, waited = self._clock, self._clock.waited
        begin = max(clock.compute, clock.host)
        weights.forward(self._work[turn.use], last=last)
        allocated, reserved, least = self._allocate(turn.use, use)
        clock.used(use.component, use.entry, begin, clock.compute)
        self._sample((begin + clock.compute) / 2, allocated, reserved)
        self._sample(clock.compute)
        one = self._uses.setdefault((stage, use.component, use.entry), _Use())
        one.times += 1
        one.allocated, one.needed = max(one.allocated, allocated), max(one.needed, least)
        one.reserved = max(one.reserved, reserved)
        one.seconds += clock.compute - begin
        one.waits += clock.waited - waited

    def _allocate(self, number: int, use: UseProfile) -> tuple[int, int, int]:
        """What the use allocates. Bytes at its peak beside the weights: allocated, reserved, and allocated
        without the scratch that can be done without."""
        key = (number, self._memory.own)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] > SAME:
            return self._seen[key]
        allocator = self._memory.allocator
        allocator.reset_peak()
        held = allocator.allocated
        try:
            left = play(allocator, use)
        except NoRoom:
            left = self._without_room(use)
        self._held += left
        self._memory.note(allocator.peak_reserved)
        found = (allocator.peak_allocated, allocator.peak_reserved, held + use.peak(scratch=False))
        self._seen[key] = found
        return found

    def _without_room(self, use: UseProfile) -> list[Block]:
        """Once more with what is spare given back; then as if there were no cap, which is told."""
        if self._memory.release_freed():
            try:
                return play(self._memory.allocator, use)
            except NoRoom:
                pass
        self._short[use.component] = None
        cap, self._memory.allocator.cap = self._memory.allocator.cap, None
        try:
            return play(self._memory.allocator, use)
        finally:
            self._memory.allocator.cap = cap

    def _hold(self, nbytes: int) -> None:
        """The pipeline itself has so many bytes on the device; what a use left is among them by now."""
        allocator = self._memory.allocator
        if sum(block.size for block in self._held) == nbytes:
            return
        before, self._held = self._held, []
        release(allocator, before)
        if nbytes:
            try:
                self._held = [allocator.alloc(nbytes)]
            except NoRoom:
                self._memory.release_freed()
                cap, allocator.cap = allocator.cap, None
                self._held = [allocator.alloc(nbytes)]
                allocator.cap = cap

    # -- moves, as ``planner.session.device_state`` makes them

    def _resident(self) -> tuple[str, ...]:
        there = (name for name, one in self._components.items() if one.weights is not None)
        return tuple(sorted(there, key=lambda name: self._components[name].arrival))

    def _evict(self, name: str) -> None:
        component = self._components[name]
        if component.weights is not None:
            component.weights.release()
            component.weights = None

    def _split(self, component: _Component) -> Split | None:
        placement = component.placement
        room = self._estimate.room(component.name, placement.room)
        if room is not None:
            stays = () if component.weights is None else component.weights.stays
            return in_room(placement, component.blocks, room, dict(placement.pace), stays)
        planned = placement.split
        return None if planned is None or not planned.buffer else planned

    def _full(self, component: _Component) -> int:
        made = self._split(component)
        return component.blocks.bytes if made is None else made.held

    def _incoming(self, name: str) -> int:
        component = self._components[name]
        weights = component.weights
        if weights is None:
            return self._full(component)
        if not weights.partial and name in self._used:
            return 0
        grows = name not in self._used and weights.grows(self._split(component))
        return (self._full(component) if grows else weights.full) - weights.nbytes

    def _make_room(self, name: str, incoming: int) -> None:
        spare = self._guide.spare(name, self._resident())
        for other, leave in [*self._ways(spare)]:
            if not (short := self._estimate.shortfall(name, incoming)):
                return
            if self._components[other].weights is not None:
                leave(short)

    def _ways(self, names: list[str]) -> Iterator[tuple[str, Callable[[int], None]]]:
        yield from ((name, partial(self._shed, name)) for name in names)
        yield from ((name, lambda _, name=name: self._evict(name)) for name in names)

    def _shed(self, name: str, nbytes: int) -> None:
        weights = self._components[name].weights
        if weights is not None and not weights.partial:
            weights.shed(nbytes)

    def _load(self, name: str, early: int | None = None) -> None:
        component = self._components[name]
        try:
            self._onload(component, early)
        except NoMemory:
            for other in self._resident():
                if other not in (name, *self._schedule.course.fixed):
                    self._evict(other)
            try:
                self._onload(component, early)
            except NoMemory:
                self._short[name] = None
                self._memory.cap(None)
                self._onload(component, early)

    def _onload(self, component: _Component, early: int | None) -> None:
        made = self._split(component)
        if component.weights is not None:
            if component.weights.grows(made):
                component.weights.grow(made)
            if component.weights.partial:
                component.weights.complete()
            return
        component.weights = ClockWeights(
            component.name,
            component.blocks,
            component.order,
            made,
            self._clock,
            self._memory,
            pinned=component.pinned,
            early=early,
            grain=self._estimate.grain,
        )
        try:
            component.weights.begin()
        except NoMemory:
            self._evict(component.name)
            raise
        self._arrivals += 1
        component.arrival = self._arrivals

    def _load_early(self, name: str, nbytes: int, *, beside: str) -> None:
        component = self._components.get(name)
        if component is None or component.weights is not None:
            return
        if self._estimate.shortfall(beside, nbytes):
            return
        try:
            self._onload(component, nbytes)
        except NoMemory:
            return

    def _settle(self, name: str) -> None:
        """It was placed when the plan was applied."""
        weights = self._components[name].weights
        if weights is not None:
            weights.forward((), last=True)

    # -- what is told

    def _sample(self, at: float, allocated: int | None = None, reserved: int | None = None) -> None:
        """Memory at a moment; at a use's peak with what is said."""
        memory, allocator = self._memory, self._memory.allocator
        held = allocator.reserved if reserved is None else max(reserved, allocator.reserved)
        host = sum(one.blocks.bytes for one in self._components.values())
        pinned = sum(one.blocks.bytes for one in self._components.values() if one.pinned)
        context = self._card.context_with(pinned)
        weights = sum(one.weights.nbytes for one in self._components.values() if one.weights is not None)
        sample = Sample(
            at=micros(at),
            weights=weights,
            allocated=allocator.allocated if allocated is None else allocated,
            reserved=held,
            driver=context + memory.live + memory.spare + held,
            pinned=pinned,
            host=host,
        )
        if self._samples and self._samples[-1].at >= sample.at:
            sample = _most(self._samples.pop(), sample)
        self._samples.append(sample)

    def _forecast(self, end: float, *, fits: bool) -> Forecast:
        course = self._schedule.course
        pinned = self._samples[-1].pinned
        source: Source = "predicted" if self._card.source == "measured" else "assumed"
        notes = [*self._call.notes]
        notes += [f"{name}: does not fit, and runs out of memory" for name in self._short]
        missing = {u.component for u in self._call.uses} - {*self._components}
        notes += [f"{name}: not in the plan's target; not counted" for name in sorted(missing)]
        return Forecast(
            uses=tuple(
                UseForecast(
                    stage=stage,
                    component=name,
                    entry=entry or "forward",
                    times=one.times,
                    allocated=one.allocated,
                    reserved=one.reserved,
                    needed=one.needed,
                    seconds=one.seconds,
                    waits=one.waits,
                    source=source,
                )
                for (stage, name, entry), one in self._uses.items()
            ),
            intervals=tuple(sorted(self._clock.intervals, key=lambda i: (i.start, i.end, i.lane))),
            samples=tuple(self._samples),
            peak=self._memory.most + self._card.context_with(pinned),
            seconds=end,
            first=end,
            moved=self._clock.moved,
            fits=fits,
            source=source,
            notes=(*notes, *(("idle: keep: a later call",) if course.idle is Idle.KEEP else ())),
        )

    def _orders(self) -> dict[str, tuple[int, ...]]:
        """In which blocks each component runs, by its longest use."""
        found: dict[str, tuple[int, ...]] = {}
        for use, work in zip(self._call.uses, self._work, strict=True):
            order = tuple(dict.fromkeys(w.block for w in work if w.block != FIXED))
            if len(order) > len(found.get(use.component, ())):
                found[use.component] = order
        return found


def _blocks(info: ComponentInfo) -> Blocks | None:
    if info.blocks is not None or info.bytes is None:
        return info.blocks
    return Blocks(fixed=info.bytes, streamable=())


def _pinned(graph: Graph, schedule: Schedule) -> set[str]:
    """The components whose host memory is registered: in the schedule's order, as far as ``budget.pinned``
    goes."""
    said, found, total = graph.plan.budget.pinned, set(), 0
    for name in schedule.pins:
        total += schedule.host[name] or 0
        if said is None or said.bytes is None or total <= said.bytes:
            found.add(name)
    return found


def _most(before: Sample, now: Sample) -> Sample:
    return Sample(
        at=before.at,
        weights=max(before.weights, now.weights),
        allocated=max(before.allocated, now.allocated),
        reserved=max(before.reserved, now.reserved),
        driver=max(before.driver, now.driver),
        pinned=now.pinned,
        host=now.host,
    )


def forecast(graph: Graph, schedule: Schedule, call: CallProfile, card: CardData) -> Forecast:
    """What ``call`` takes under ``schedule`` on ``card``. With ``idle: keep`` of a later call: ``first`` is
    of the first one then, and ``peak`` of both."""
    player = Player(graph, schedule, call, card)
    first = player.play()
    if schedule.course.idle is not Idle.KEEP:
        return first
    later = player.play()
    return replace(
        later,
        first=first.seconds,
        peak=max(first.peak, later.peak),
        fits=first.fits and later.fits,
        moved=later.moved,
    )
