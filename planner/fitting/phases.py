"""What any plan for a call has to do: compute so long, hold so much, bring so many bytes.

A call is cut into phases, each a use outside of loops or a whole loop. The numbers are those of the cost
model of ``planner.predict``: seconds from the card's rates, bytes from the traced call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.cards.data import CardData
from planner.graph.model import Graph
from planner.plan.model import Policy
from planner.predict.clock import BUSY
from planner.predict.pace import spread, works
from planner.predict.profile import CallProfile, Turn, Weights
from planner.predict.streamed import BIND, FIXED, UNBIND, Work
from planner.schedule.guide import Guide
from planner.schedule.model import Schedule
from planner.target.model import Blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A component's weights. Bytes: ``size`` of all; ``low`` to ``high`` of them are on the device while it
    runs, ``always`` of them at any time. ``copy``: seconds of the link that a byte takes to the device, and
    ``bind``: of the host that it takes in its module, where that is least; ``placed``: it may be there when a
    first call begins."""

    size: int
    low: int
    high: int
    always: int = 0
    copy: float
    bind: float
    placed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """``forwards``: how often each component runs in it; ``reads``: bytes of it that its first forward
    computes with, and all later ones together, as an autoencoder that decodes enters no block of its encoder;
    ``seconds`` that the device computes; ``room``: bytes that the budget leaves beside what the uses
    allocate, None without a budget."""

    stage: str
    forwards: Mapping[str, int]
    reads: Mapping[str, tuple[int, int]]
    seconds: float
    room: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """``cycle``: the call begins with what one before it left; else with what is placed and nothing more.
    ``host``: seconds in which the host hands out the operations; ``seconds``: of the call with room for
    everything."""

    parts: Mapping[str, Part]
    phases: tuple[Phase, ...]
    cycle: bool
    host: float
    seconds: float


def problem_of(
    graph: Graph,
    schedule: Schedule,
    call: CallProfile,
    card: CardData,
    *,
    budget: int | None,
    cycle: bool,
    placed: bool,
    seconds: float,
) -> Problem:
    """The problem of which every plan for this call is a solution, and some that are none.

    ``graph``, ``schedule``: of any plan for it; ``budget``: bytes for weights and activations; ``placed``: a
    plan may leave components on the device for good; ``seconds``: as in ``Problem``."""
    parts = {
        name: _part(graph, name, blocks, call.weights.get(name), card, placed=placed)
        for name in graph.placements
        if (blocks := blocks_of(graph, name)) is not None
    }
    work = works(call, card)
    reads = [_read(graph, use.component, call, one) for use, one in zip(call.uses, work, strict=True)]
    phases = _phases(schedule, call, work, reads, parts, budget)
    handed = sum(stretch.operations for turn in call.turns for stretch in work[turn.use])
    return Problem(parts=parts, phases=phases, cycle=cycle, host=handed * card.dispatch, seconds=seconds)


def blocks_of(graph: Graph, name: str) -> Blocks | None:
    """How a component's weights split; None where its size is not known."""
    info = graph.target.components[name]
    if info.blocks is not None or info.bytes is None:
        return info.blocks
    return Blocks(fixed=info.bytes, streamable=())


def _part(
    graph: Graph, name: str, blocks: Blocks, traced: Weights | None, card: CardData, *, placed: bool
) -> Part:
    """Without what its policy is now, unless it never leaves."""
    placement = graph.placements[name]
    copies = [size for size in (blocks.fixed, *blocks.streamable) if size]
    copy = min((card.copy_seconds(size) / size for size in copies), default=0.0) / BUSY
    sizes = (blocks.fixed, *blocks.streamable)
    tensors = (
        traced.tensors if traced is not None and len(traced.tensors) == len(sizes) else (0,) * len(sizes)
    )
    binds = [count / size for count, size in zip(tensors, sizes, strict=True) if size]
    stays = placement.policy is Policy.RESIDENT or placement.excluded
    return Part(
        size=blocks.bytes,
        low=blocks.fixed,
        high=blocks.bytes,
        always=blocks.bytes if stays else 0,
        copy=copy,
        bind=min(binds, default=0.0) * (BIND + UNBIND) * card.dispatch,
        placed=placed or stays,
    )


def _read(graph: Graph, name: str, call: CallProfile, work: tuple[Work, ...]) -> int:
    """Bytes of a component that a use computes with: what is fixed, and the blocks that it enters."""
    blocks = blocks_of(graph, name)
    if blocks is None:
        return 0
    if (traced := call.weights.get(name)) is not None:
        work = spread(work, len(traced.blocks), len(blocks.streamable))
    entered = {stretch.block for stretch in work if stretch.block != FIXED}
    return blocks.fixed + sum(blocks.streamable[block - 1] for block in entered)


def _phases(
    schedule: Schedule,
    call: CallProfile,
    work: Sequence[Sequence[Work]],
    reads: Sequence[int],
    parts: Mapping[str, Part],
    budget: int | None,
) -> tuple[Phase, ...]:
    course, guide = schedule.course, Guide(schedule.course)
    loops = {node.id for node in course.walk if node.loop is not None}
    guide.start()
    groups: list[tuple[str, list[Turn]]] = []
    for turn in call.turns:
        use = call.uses[turn.use]
        if use.component not in parts:
            continue
        stage = guide.enter(use.component, use.entry, ()).stage
        same = bool(groups) and groups[-1][0] == stage
        if same and (stage in loops or call.uses[groups[-1][1][-1].use].component == use.component):
            groups[-1][1].append(turn)
        else:
            groups.append((stage, [turn]))
    took = [sum(stretch.seconds for stretch in one) for one in work]
    found = []
    for stage, turns in groups:
        forwards: dict[str, int] = {}
        read: dict[str, tuple[int, int]] = {}
        for turn in turns:
            name = call.uses[turn.use].component
            forwards[name] = forwards.get(name, 0) + 1
            first, later = read.get(name, (reads[turn.use], -reads[turn.use]))
            read[name] = first, later + reads[turn.use]
        needs = max(call.workspace + turn.held + call.uses[turn.use].peak() for turn in turns)
        found.append(
            Phase(
                stage=stage,
                forwards=forwards,
                reads=read,
                seconds=sum(took[turn.use] for turn in turns),
                room=None if budget is None else budget - needs,
            )
        )
    return tuple(found)
