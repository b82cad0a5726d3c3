"""A traced call under a schedule, played: what is on the device when, and how long it takes. No torch.

Weights come and go as ``planner.predict.resident`` has it; what each use allocates goes through the model of
torch's allocator, beside them and under the same cap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from planner.cards.data import CardData
from planner.graph.model import Graph
from planner.plan.model import Idle
from planner.predict.allocator import Block, NoRoom
from planner.predict.between import Between
from planner.predict.clock import Lanes, micros
from planner.predict.forecast import Forecast, Outcome, Sample, Source, UseForecast
from planner.predict.pace import works
from planner.predict.profile import CallProfile, Turn, UseProfile
from planner.predict.replays import Replays
from planner.predict.resident import Residents
from planner.predict.rounds import Rounds
from planner.predict.streamed import ClockWeights, Work
from planner.schedule.model import Schedule

Told = TypeVar("Told", bound=Outcome)

MEASURED = ("bytes", "seconds")
"""What of a use can be measured; one of which both are has no predicted number."""
EXACT = 1e-9
"""Seconds: what rounding makes of equal times."""


def forecast(graph: Graph, schedule: Schedule, call: CallProfile, card: CardData) -> Forecast:
    """What ``call`` takes under ``schedule`` on ``card``. With ``idle: keep`` of a later call: ``first`` is
    of the first one then, and ``peak`` and ``fits`` of both."""
    first, later = calls(graph, schedule, call, card)
    if schedule.course.idle is not Idle.KEEP:
        return first
    return replace(_later(later, first), notes=(*later.notes, "idle: keep: of a later call"))


def calls(graph: Graph, schedule: Schedule, call: CallProfile, card: CardData) -> tuple[Forecast, Forecast]:
    """The first ``call`` of a process and a later one, which are the same but with ``idle: keep``: what the
    first leaves on the device is there for the later one."""
    player = Player(graph, schedule, call, card)
    first = player.play()
    return first, player.play() if schedule.course.idle is Idle.KEEP else first


def outcome(graph: Graph, schedule: Schedule, call: CallProfile, card: CardData, replays: Replays) -> Outcome:
    """The same numbers as ``forecast``'s. ``replays``: of other plans for this call."""
    player = Player(graph, schedule, call, card, replays=replays, drawn=False)
    first = player.outcome()
    return _later(player.outcome(), first) if schedule.course.idle is Idle.KEEP else first


def _later(later: Told, first: Outcome) -> Told:
    """With what the ``first`` call took."""
    peak, fits = max(first.peak, later.peak), first.fits and later.fits
    return replace(later, first=first.seconds, peak=peak, fits=fits)


@dataclass(frozen=True, slots=True)
class _Forward:
    """One that was played: its use, where the lanes and its weights were when it began, by how much each lane
    had gone on since the one before began, and how long it waited."""

    use: int
    weights: ClockWeights
    lanes: Lanes
    position: tuple[object, ...]
    step: Lanes
    waited: float


@dataclass(slots=True)
class _Use:
    """What is gathered of a component's entry in a stage, as ``UseForecast`` has it."""

    times: int = 0
    allocated: int = 0
    reserved: int = 0
    needed: int = 0
    seconds: float = 0.0
    waits: float = 0.0


class Player:
    """One pipeline on a card of its own. Its state goes on from call to call, as a session's does."""

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        call: CallProfile,
        card: CardData,
        *,
        replays: Replays | None = None,
        drawn: bool = True,
    ) -> None:
        """What stays between calls is on the device already. ``drawn``: a forecast is asked for, not its
        outcome alone."""
        self._call = call
        self._card = card
        self._keeps = schedule.course.idle is Idle.KEEP
        self._drawn = drawn
        self._replays = Replays() if replays is None else replays
        self._residents = Residents(graph, schedule, call, card, forwards=self._replays.forwards, drawn=drawn)
        self._otherwise = dict(self._split_otherwise())
        self._work = [self._spread(use, work) for use, work in zip(call.uses, works(call, card), strict=True)]
        self._orders = [self._replays.forwards.order_of(work) for work in self._work]
        self._samples: list[Sample] = []
        self._seen: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._uses: dict[tuple[str, str, str], _Use] = {}
        self._between = Between(self._residents.memory.allocator)
        self._last: _Forward | None = None
        self._cramped = bool(call.workspace) and not self._keep(call.workspace)

    def play(self) -> Forecast:
        """One call."""
        return self._forecast(self.outcome())

    def outcome(self) -> Outcome:
        """Of one call."""
        residents, memory = self._residents, self._residents.memory
        residents.begin()
        if self._cramped:  # told at the first use, which needs it
            residents.short[self._call.uses[self._call.turns[0].use].component] = None
        self._samples.clear()
        self._uses.clear()
        self._last = None
        memory.most, retries = memory.held, memory.retry_count()
        self._sample(0.0)
        turns = [*_of(self._call, residents.components)]
        last = {self._call.uses[turn.use].component: at for at, turn in enumerate(turns)}
        rounds, upto = Rounds(turns), 0
        for at, turn in enumerate(turns):
            use = self._call.uses[turn.use]
            order = self._orders[turn.use]
            if at >= upto:
                upto = rounds.alike(at, (memory.own, memory.allocator.cap, memory.allocator.state))
            if plays := at >= upto:
                self._between.upto(turn)
            stage, weights = residents.enter(use.component, use.entry, use.signature, order, use.weights)
            self._run(stage, turn.use, weights, last=at == last[use.component], plays=plays)
            residents.leave(use.component, use.entry)
        residents.end()
        self._between.end()
        if not self._keeps:
            memory.empty_cache()
        self._sample(residents.clock.now)
        return Outcome(
            peak=memory.most + self._context,
            seconds=residents.clock.now,
            first=residents.clock.now,
            moved=residents.clock.moved,
            fits=memory.retry_count() == retries and not residents.short,
            short=tuple(residents.short),
        )

    def _split_otherwise(self) -> Iterator[tuple[str, str]]:
        """Components of which other blocks were traced than anybody counted, and how they are played."""
        for name, component in self._residents.components.items():
            traced, there = self._call.weights.get(name), component.blocks.streamable
            if traced is not None and len(traced.blocks) != len(there):
                yield name, "its time laid over its blocks" if there else "played as one"

    def _spread(self, use: UseProfile, work: tuple[Work, ...]) -> tuple[Work, ...]:
        """Over the blocks that its component has here: what streams crosses, whichever was traced."""
        if use.component not in self._otherwise:
            return work
        there = self._residents.components[use.component].blocks.streamable
        return self._replays.spread(work, len(self._call.weights[use.component].blocks), len(there))

    def _keep(self, workspace: int) -> bool:
        """What libraries keep, which is there whatever the cap is. Whether it has room."""
        allocator = self._residents.memory.allocator
        try:
            allocator.alloc(workspace)
        except NoRoom:
            with allocator.uncapped():
                allocator.alloc(workspace)
            return False
        return True

    def _run(self, stage: str, number: int, weights: ClockWeights, *, last: bool, plays: bool) -> None:
        use, clock = self._call.uses[number], self._residents.clock
        begin, waited = max(clock.compute, clock.host), clock.waited
        self._forward(number, weights, last=last)
        allocated, reserved, needed = self._allocate(number, use, plays=plays)
        clock.used(use.component, use.entry, begin, clock.compute)
        self._sample(begin, allocated, reserved)  # until its end: when in it the peak is nobody knows
        self._sample(clock.compute)
        one = self._uses.setdefault((stage, use.component, use.entry), _Use())
        one.times += 1
        one.allocated, one.reserved = max(one.allocated, allocated), max(one.reserved, reserved)
        one.needed = max(one.needed, needed)
        one.seconds += clock.compute - begin
        one.waits += clock.waited - waited

    def _forward(self, number: int, weights: ClockWeights, *, last: bool) -> None:
        """Loops come to a steady state, in which each forward is like the one before: that is not worked out
        block by block. Steady: in two forwards the blocks were the same ones and each lane went on by as
        much, the copies' as the computing's, and the host stays ahead."""
        clock, before = self._residents.clock, self._last
        lanes, position, step = clock.lanes, weights.position, (0.0, 0.0, 0.0)
        if before is not None and (before.use, before.weights) == (number, weights):
            step = _since(before.lanes, lanes)
            if not last and before.position == position and _steady(before.step, step):
                clock.again(step, before.waited)
                weights.later(step[1])
                self._last = _Forward(number, weights, lanes, position, step, before.waited)
                return
        clock.mark()
        waited = clock.waited
        weights.forward(self._work[number], last=last)
        self._last = _Forward(number, weights, lanes, position, step, clock.waited - waited)

    def _allocate(self, number: int, use: UseProfile, *, plays: bool) -> tuple[int, int, int]:
        """What the use allocates, where that is not known from rounds before. Bytes at its peak beside the
        weights: allocated, reserved, and allocated without the scratch that can be done without."""
        memory = self._residents.memory
        key, allocator = (number, memory.own), memory.allocator
        if not plays and key in self._seen:
            return self._seen[key]
        allocator.reset_peak()
        held = allocator.allocated
        try:
            left = self._replays.play(allocator, use)
        except NoRoom:
            left = self._once_more(use)
        self._between.used(left)
        memory.note(allocator.peak_reserved)
        found = (allocator.peak_allocated, allocator.peak_reserved, held + use.peak(scratch=False))
        self._seen[key] = found
        return found

    def _once_more(self, use: UseProfile) -> list[Block]:
        """With what is spare given back, as a session does; else as if there were no cap."""
        memory, allocator = self._residents.memory, self._residents.memory.allocator
        if memory.release_freed():
            try:
                return self._replays.play(allocator, use)
            except NoRoom:
                pass
        self._residents.short[use.component] = None
        with allocator.uncapped():
            return self._replays.play(allocator, use)

    def _sample(self, at: float, allocated: int | None = None, reserved: int | None = None) -> None:
        """Memory at a moment; at a use's peak with what is said."""
        residents, memory = self._residents, self._residents.memory
        allocator = memory.allocator
        lately = memory.lately()
        if not self._drawn:
            return
        held = max(reserved or 0, allocator.reserved)
        sample = Sample(
            at=micros(at),
            weights=residents.nbytes,
            allocated=allocator.allocated if allocated is None else allocated,
            reserved=held,
            driver=self._context + max(memory.pieces + held, lately),
            pinned=residents.pinned,
            host=residents.host,
        )
        if self._samples and self._samples[-1].at >= sample.at:
            sample = _most(self._samples.pop(), sample)
        self._samples.append(sample)

    @property
    def _context(self) -> int:
        return self._card.context_with(self._residents.pinned)

    def _forecast(self, found: Outcome) -> Forecast:
        residents, clock = self._residents, self._residents.clock
        source: Source = "predicted" if self._card.source == "measured" else "assumed"
        missing = {use.component for use in self._call.uses} - residents.components.keys()
        entries: dict[tuple[str, str], bool] = {}
        for use in self._call.uses:
            key = (use.component, use.entry)
            entries[key] = entries.get(key, True) and len(use.measured) == len(MEASURED)
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
                    source="measured" if entries[name, entry] else source,
                )
                for (stage, name, entry), one in self._uses.items()
            ),
            intervals=tuple(sorted(clock.intervals(), key=lambda i: (i.start, i.end, i.lane))),
            samples=tuple(self._samples),
            peak=found.peak,
            seconds=found.seconds,
            first=found.first,
            moved=found.moved,
            fits=found.fits,
            short=found.short,
            source=source,
            notes=(
                *self._call.notes,
                *(f"{name}: the budget has no room for it" for name in residents.short),
                *(
                    f"{name}: {how}, since its blocks are not those traced"
                    for name, how in self._otherwise.items()
                ),
                *(["the budget has no room for what libraries keep"] if self._cramped else []),
                *(f"{name}: its size is not known, it is left out" for name in sorted(missing)),
            ),
        )


def _of(call: CallProfile, components: Mapping[str, object]) -> Iterator[Turn]:
    """The turns of ``components``, each with what the pipeline does since the one before."""
    glue: tuple[int, ...] = ()
    for turn in call.turns:
        glue += turn.glue
        if call.uses[turn.use].component in components:
            yield replace(turn, glue=glue) if glue is not turn.glue else turn
            glue = ()


def _since(then: Lanes, now: Lanes) -> Lanes:
    return now[0] - then[0], now[1] - then[1], now[2] - then[2]


def _steady(before: Lanes, now: Lanes) -> bool:
    host, compute, copy = now
    same = all(abs(a - b) <= EXACT for a, b in zip(before, now, strict=True))
    return same and compute > 0 and host <= compute + EXACT and (copy == 0 or abs(copy - compute) <= EXACT)


def _most(before: Sample, now: Sample) -> Sample:
    fields = ("weights", "allocated", "reserved", "driver")
    return replace(now, at=before.at, **{f: max(getattr(before, f), getattr(now, f)) for f in fields})
