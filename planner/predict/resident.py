"""A plan's components on a modelled device: who is there, with how much of its weights, and who leaves.

What a session decides at each use (``planner.session.device_state``), for one pipeline that has the device to
itself: the ``Guide`` and the ``ActivationEstimate`` are those that a session asks, what moves is
``ClockWeights``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from planner.cards.data import CardData
from planner.graph.flow import in_room
from planner.graph.model import Graph, Placement
from planner.graph.split import Split
from planner.predict.clock import Clock
from planner.predict.memory import Memory, NoMemory
from planner.predict.needs import expectations
from planner.predict.profile import CallProfile, Weights
from planner.predict.streamed import ClockWeights, Forwards
from planner.schedule.estimate import ActivationEstimate
from planner.schedule.guide import Decision, Guide
from planner.schedule.model import Schedule
from planner.schedule.pins import pinned
from planner.target.model import Blocks, ComponentInfo, device_bytes


@dataclass(slots=True)
class Component:
    """``order``: in which its blocks run in its next use, by number; ``tensors``: how many there are in each,
    () where nobody counted; ``pageable``: by number, how many bytes of a block's host memory are not
    registered; ``loaded``: its blocks before the pipeline ``cast`` it, if it did; ``weights``: None while
    it is away."""

    name: str
    blocks: Blocks
    placement: Placement
    order: tuple[int, ...]
    tensors: tuple[int, ...]
    pageable: Mapping[int, int]
    loaded: Blocks
    weights: ClockWeights | None = None
    arrival: int = 0
    cast: Weights | None = None


class Residents:
    """The components of ``graph`` that have a size. Their state goes on from call to call.

    ``memory``, ``clock``: the device's; ``short``: those for which the budget had no room, which it was made
    for all the same; ``host``: bytes of weights in host memory, ``pinned`` of which are registered.
    """

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        call: CallProfile,
        card: CardData,
        *,
        forwards: Forwards,
        drawn: bool = True,
    ) -> None:
        """What stays between calls is on the device, all else is away. ``forwards``: that were written down
        before; ``drawn``: as of its ``clock``."""
        course = schedule.course
        self.memory = Memory(course.budget)
        self.clock = Clock(card, drawn)
        self.short: dict[str, None] = {}
        self.components: dict[str, Component] = {}
        self._card = card
        self._forwards = forwards
        self._guide = Guide(course)
        self._fixed = course.fixed
        self._estimate = ActivationEstimate(self.memory, course.budget)
        self._used: set[str] = set()
        self._arrivals = 0
        said = graph.plan.budget.pinned
        limit = None if said is None else said.bytes
        registered = {} if limit is None else pinned(schedule.pins, schedule.host, limit)
        for name, placement in schedule.placements.items():
            if (blocks := _blocks(graph.target.components[name])) is not None:
                self.components[name] = Component(
                    name,
                    blocks,
                    placement,
                    (),
                    _tensors(blocks, call.weights.get(name)),
                    {} if limit is None else _pageable(blocks, registered[name]),
                    blocks,
                )
        self.host = sum(one.blocks.bytes for one in self.components.values())
        self.pinned = self.host - sum(sum(one.pageable.values()) for one in self.components.values())
        for name, expected in expectations(call).items():
            self._estimate.expect(name, expected.nbytes, expected.signature)
        for name in course.fixed:
            if name in self.components:
                self._load(name)
                weights = self.components[name].weights
                if weights is not None:
                    weights.settle()

    # -- what a call does

    def begin(self) -> None:
        """A call begins."""
        self.clock = Clock(self._card, self.clock.drawn)
        for component in self.components.values():
            if component.weights is not None:
                component.weights.restart(self.clock)
        self.short.clear()
        self._used.clear()
        self._guide.start()
        self._estimate.begin()

    def enter(
        self, name: str, entry: str, signature: str, order: tuple[int, ...], cast: Weights | None = None
    ) -> tuple[str, ClockWeights]:
        """A component is on the device, to run its blocks in this ``order``; ``cast``: with these weights in
        place of the loaded ones. The stage that it runs in, and its weights."""
        component = self.components[name]
        self._become(component, cast)
        component.order = order
        decision = self._guide.enter(name, entry, self.resident())
        self.clock.stage = decision.stage
        for leaving in decision.evict:
            self._evict(leaving)
        incoming = self._incoming(name)
        self._make_room(name, entry, incoming)
        if self._estimate.enter(name, entry, incoming):
            self.clock.host = max(self.clock.host, self.clock.compute)
            self.memory.empty_cache()
        if incoming or component.weights is None or component.weights.partial:
            self._load(name)
        self._load_early(decision, beside=(name, entry))
        first = name not in self._used
        self._used.add(name)
        reserve = self._estimate.reserve(name, signature) if first else None
        self.memory.release_freed(reserve)
        self.clock.unmaps(*self.memory.unmapped())
        assert component.weights is not None
        return decision.stage, component.weights

    def leave(self, name: str, entry: str) -> None:
        """It ran."""
        self._estimate.observe(name, entry)

    def end(self) -> None:
        """The call is over: who leaves has left."""
        for component in self.components.values():
            self._become(component, None)  # pipelines give back what they cast
        for name in self._guide.finish(self.resident()):
            self._evict(name)
        self.memory.release_freed()
        self.clock.unmaps(*self.memory.unmapped())
        self._estimate.end()

    # -- figures

    def resident(self) -> tuple[str, ...]:
        """The components on the device, in the order in which they came."""
        there = (name for name, one in self.components.items() if one.weights is not None)
        return tuple(sorted(there, key=lambda name: self.components[name].arrival))

    @property
    def nbytes(self) -> int:
        """Bytes of weights on the device."""
        return sum(one.weights.nbytes for one in self.components.values() if one.weights is not None)

    # -- moves

    def _become(self, component: Component, cast: Weights | None) -> None:
        """It was cast, or cast back, and left the device for that."""
        if component.cast != cast:
            self._evict(component.name)
            component.cast = cast
            component.blocks = component.loaded if cast is None else _cast(component.loaded, cast)

    def _split(self, component: Component) -> Split | None:
        placement = component.placement
        room = self._estimate.room(component.name, placement.room)
        if room is not None:
            stays = () if component.weights is None else component.weights.stays
            return in_room(placement, component.blocks, room, dict(placement.pace), stays)
        planned = placement.split
        return None if planned is None or not planned.buffer else planned

    def _held(self, component: Component) -> int:
        made = self._split(component)
        return component.blocks.bytes if made is None else made.held

    def _incoming(self, name: str) -> int:
        component = self.components[name]
        weights, first = component.weights, name not in self._used
        if weights is None:
            return self._held(component)
        if not weights.partial and not first:
            return 0
        grows = first and weights.grows(self._split(component))
        return (self._held(component) if grows else weights.full) - weights.nbytes

    def _make_room(self, name: str, entry: str, incoming: int) -> None:
        for other, leave in [*self._ways(self._guide.spare(name, self.resident()))]:
            spared = self._guide.is_over(other)
            short = self._estimate.shortfall(name, entry, incoming, spared=spared)
            if short and self.components[other].weights is not None:
                leave(short)

    def _ways(self, names: list[str]) -> Iterator[tuple[str, Callable[[int], None]]]:
        """First a part of each leaves, then all of it."""
        yield from ((name, partial(self._shed, name)) for name in names)
        yield from ((name, partial(self._evict, name)) for name in names)

    def _shed(self, name: str, nbytes: int) -> None:
        weights = self.components[name].weights
        if weights is not None and not weights.partial:
            weights.shed(nbytes)

    def _evict(self, name: str, _: int = 0) -> None:
        component = self.components[name]
        if component.weights is not None:
            component.weights.release()
            component.weights = None

    def _load(self, name: str) -> None:
        """Where there is no room, all others leave; where that does not do, it is as if there were."""
        component = self.components[name]
        try:
            self._onload(component)
        except NoMemory:
            for other in self.resident():
                if other not in (name, *self._fixed):
                    self._evict(other)
            try:
                self._onload(component)
            except NoMemory:
                self.short[name] = None
                self.memory.cap(None)
                self._onload(component)

    def _load_early(self, decision: Decision, *, beside: tuple[str, str]) -> None:
        name, nbytes = decision.ahead or ("", 0)
        component = self.components.get(name)
        if component is None or component.weights is not None or self._estimate.shortfall(*beside, nbytes):
            return
        try:
            self._onload(component, nbytes)
        except NoMemory:
            return

    def _onload(self, component: Component, early: int | None = None) -> None:
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
            self.clock,
            self.memory,
            pageable=component.pageable,
            forwards=self._forwards,
            tensors=component.tensors,
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


def _blocks(info: ComponentInfo) -> Blocks | None:
    if info.blocks is not None or info.bytes is None:
        return info.blocks
    return Blocks(fixed=info.bytes, streamable=())


def _cast(loaded: Blocks, cast: Weights) -> Blocks:
    """The blocks in another dtype; in proportion where others were traced than anybody counted."""
    sizes = tuple(size for _, size in cast.blocks)
    if len(sizes) == len(loaded.streamable):
        return replace(loaded, fixed=cast.fixed, streamable=sizes)
    factor = (cast.fixed + sum(sizes)) / max(1, loaded.bytes)
    fixed, *others = (device_bytes([round(size * factor)]) for size in (loaded.fixed, *loaded.streamable))
    return replace(loaded, fixed=fixed, streamable=tuple(others))


def _tensors(blocks: Blocks, traced: Weights | None) -> tuple[int, ...]:
    known = traced is not None and len(traced.tensors) == len(blocks.streamable) + 1
    return traced.tensors if traced is not None and known else ()


def _pageable(blocks: Blocks, pieces: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By number, bytes of the blocks that are not registered, where the bytes of ``pieces`` are: what is
    fixed lies first, then block after block."""
    found, begin = {}, 0
    for index, size in enumerate((blocks.fixed, *blocks.streamable)):
        end = begin + size
        there = sum(max(0, min(end, stop) - max(begin, start)) for start, stop in pieces)
        if there < size:
            found[index] = size - there
        begin = end
    return found
