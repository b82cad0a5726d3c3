"""Who streams, and how much of it stays: every component that its stage has no room for whole.

Before: ``transformer offload 22.2 GiB`` in 11 GiB, which does not fit. After: ``transformer stream``, 7.4 GiB
of it stay. What the plan says is kept: a policy is never overridden, and its ``resident`` is what stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p5_passes import STREAMS
from planner.graph.model import Graph, Placement
from planner.graph.split import PREFETCH, Split, fitted, split
from planner.plan.model import Plan, Policy, Semantics
from planner.target.model import Blocks

RESERVE = 0.15
"""Share of the budget that is left to activations when a component streams: they are not predicted yet."""


def residency(graph: Graph, budget: int | None = None, overhead: int = 0) -> tuple[Graph, list[Diagnostic]]:
    """The graph with every streamed component split; the same graph when none is.

    ``budget`` and ``overhead``: bytes, as for ``lower``.
    """
    room = room_for_weights(graph.plan, budget, overhead)
    found: list[Diagnostic] = []
    # The largest first: what it gives up, the smaller ones need not.
    for name in sorted(graph.placements, key=lambda n: (-(graph.held(n) or 0), n)):
        placement = _placed(graph, name, room)
        if placement is not graph.placements[name]:
            if placement.policy is not graph.placements[name].policy:
                said = f'component "{name}" streams: {placement.why}'
                own = placement.span != graph.plan.span
                span = placement.span if own else graph.plan.place("/budget/vram")
                found.append(finding(STREAMS, said, span=span))
            graph = replace(graph, placements={**graph.placements, name: placement})
    return graph, found


def room_for_weights(plan: Plan, budget: int | None, overhead: int) -> int | None:
    """Bytes: ``budget`` where a machine said so, else the plan's own, less ``overhead``; None if neither."""
    if budget is None and plan.budget.vram is not None:
        budget = plan.budget.vram.bytes
    return None if budget is None else max(0, budget - overhead)


def _placed(graph: Graph, name: str, room: int | None) -> Placement:
    placement, blocks = graph.placements[name], graph.target.components[name].blocks
    said = graph.plan.components.get(name)
    if blocks is None:
        return placement
    prefetch = PREFETCH if said is None or said.prefetch is None else said.prefetch
    if placement.policy is Policy.STREAM:
        wanted = said.resident.of(blocks.bytes) if said is not None and said.resident is not None else None
        if wanted is not None:
            return replace(placement, split=split(blocks, wanted, prefetch))
        return replace(placement, split=_chosen(graph, name, blocks, room, prefetch) or split(blocks, 0, 1))
    free = placement.policy is Policy.OFFLOAD and (said is None or said.policy is None)
    if not free or room is None or graph.plan.semantics is Semantics.DIFFUSERS:
        return placement
    left = room - _beside(graph, name)
    if blocks.bytes <= left:
        return placement
    made = _chosen(graph, name, blocks, room, prefetch)
    if made is None:
        return placement  # the schedule says by how much it does not fit
    why = f"its {_mib(blocks.bytes)} do not fit in {_mib(left)}; {_mib(made.resident)} of it stay"
    return replace(placement, policy=Policy.STREAM, split=made, why=why)


def _chosen(graph: Graph, name: str, blocks: Blocks, room: int | None, prefetch: int) -> Split | None:
    """As much as the budget lets stay, with room for activations if it can be had."""
    if room is None:
        return split(blocks, 0, prefetch)
    left = room - _beside(graph, name)
    return fitted(blocks, left - int(room * RESERVE), prefetch) or fitted(blocks, left, prefetch)


def _beside(graph: Graph, name: str) -> int:
    """The most that lies on the device beside ``name`` when it is in use."""
    always = {n for n, p in graph.placements.items() if p.policy is Policy.RESIDENT} | {*graph.on_demand}
    stages = [always, *(always | names for names in _together(graph, name))]
    return max(sum(graph.held(n) or 0 for n in names - {name}) for names in stages)


def _together(graph: Graph, name: str) -> Iterator[set[str]]:
    """What each looped stage with ``name`` in it holds at once."""
    for node in graph.walk:
        if node.loop is not None and name in node.components:
            yield set(node.components)


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.2f} MiB"
