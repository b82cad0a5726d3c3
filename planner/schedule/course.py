"""A graph as the course that the compiler plays and a session follows."""

from __future__ import annotations

from itertools import accumulate, compress

from planner.graph.model import Graph
from planner.passes.residency import room_for_weights
from planner.plan.model import Policy, Semantics
from planner.schedule.model import Course


def course_of(graph: Graph, budget: int | None, overhead: int) -> Course:
    """``budget`` and ``overhead``: bytes, as for ``lower``."""
    plan = graph.plan
    chain = list(dict.fromkeys(u.component for s in plan.stages or () for u in s.runs))
    known = [name for name in chain if name in graph.placements and not graph.placements[name].excluded]
    return Course(
        walk=graph.walk,
        repeats=graph.repeats,
        sizes={name: graph.held(name) for name in graph.placements},
        fixed=tuple(n for n, p in graph.placements.items() if p.policy is Policy.RESIDENT),
        on_demand=graph.on_demand,
        predecessor=dict(zip(known[1:], known, strict=False))
        if plan.semantics is Semantics.DIFFUSERS
        else {},
        semantics=plan.semantics,
        idle=plan.idle,
        budget=room_for_weights(plan, budget, overhead),
        cuts={name: _cuts(graph, name) for name in graph.placements},
        streamed=frozenset(name for name, placement in graph.placements.items() if placement.streams),
        activations=graph.activations,
    )


def _cuts(graph: Graph, name: str) -> tuple[int, ...]:
    """After what must be there and each block that stays; none for one that is moved whole."""
    blocks, part = graph.target.components[name].blocks, graph.placements[name].split
    if blocks is None or not blocks.streamable:
        return ()
    stay = blocks.streamable if part is None else compress(blocks.streamable, part.stay)
    return tuple(accumulate((blocks.fixed, *stay)))
