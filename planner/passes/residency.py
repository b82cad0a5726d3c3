"""Who streams, and how much of it stays: every component that its stage has no room for whole.

Before: ``transformer offload 22.2 GiB`` in 11 GiB, which does not fit. After: ``transformer stream``, 7.4 GiB
of it stay. What the plan says is kept: a policy is never overridden, and its ``resident`` is what stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p5_passes import RESIDENT_OVER_WHOLE, STREAMS
from planner.graph.activations import left_free_beside_all, needed
from planner.graph.flow import quickest
from planner.graph.model import Graph, Placement
from planner.graph.split import PREFETCH, Split, split
from planner.plan.model import Idle, Plan, Policy, Semantics
from planner.target.model import Blocks


def residency(graph: Graph, budget: int | None = None, overhead: int = 0) -> tuple[Graph, list[Diagnostic]]:
    """The graph with every streamed component split, and those that stream told of.

    ``budget`` and ``overhead``: bytes, as for ``lower``.
    """
    room = room_for_weights(graph.plan, budget, overhead)
    made = _kept(graph, room) or _each(graph, room)
    turned = [n for n, p in made.placements.items() if p.policy is not graph.placements[n].policy]
    return made, [
        *(_told(graph, name, made.placements[name].why) for name in turned),
        *_more_than_whole(graph),
    ]


def _more_than_whole(graph: Graph) -> Iterator[Diagnostic]:
    for name, said in graph.plan.components.items():
        info = graph.target.components.get(name)
        if info is None or info.bytes is None or said.resident is None or said.resident.bytes is None:
            continue
        if said.resident.bytes > info.bytes:
            what = f'{said.resident.text} of "{name}" are to stay, and it has {_mib(info.bytes)}'
            yield finding(RESIDENT_OVER_WHOLE, what, span=said.resident.span, hint="policy: resident")


def _each(graph: Graph, room: int | None) -> Graph:
    """Each component by itself, the largest first: what it gives up, the smaller ones need not."""
    for name in sorted(graph.placements, key=lambda n: (-(graph.held(n) or 0), n)):
        graph = replace(graph, placements={**graph.placements, name: _placed(graph, name, room)})
    return graph


def _kept(graph: Graph, room: int | None) -> Graph | None:
    """``idle: keep`` with more than the budget holds: what loops keeps the most of it, since it crosses at
    each step; what runs once crosses once a call. By the plan nothing is loaded or evicted between the
    stages then; at work what loops has all that its activations leave, and gives way in part where it must.

    None where everything fits as it is, or nothing would.
    """
    if room is None or graph.plan.idle is not Idle.KEEP or graph.plan.semantics is not Semantics.LIVENESS:
        return None
    sizes = {name: graph.held(name) for name in graph.placements}
    reserve = left_free_beside_all(graph.activations, sizes, room)
    left = room - reserve - sum(size or 0 for size in sizes.values())
    if left >= 0 or None in sizes.values():
        return None
    looped = {name for node in graph.walk if node.loop is not None for name in node.components}
    free = {name: blocks for name in sizes if (blocks := _choosable(graph, name)) is not None}
    made: dict[str, Split] = {}
    for name in sorted(free.keys() - looped, key=lambda n: -free[n].bytes):
        through = split(free[name], 0, _prefetch(graph, name))
        if left < 0 and through.held < free[name].bytes:
            made[name] = through
            left += free[name].bytes - through.held
    loops = sorted(free.keys() & looped)
    shared = left + sum(free[name].bytes for name in loops)
    for name in loops if left < 0 else ():
        share = shared * free[name].bytes // sum(free[n].bytes for n in loops)
        part = _quickest(graph, name, free[name], share)
        if part is None:
            return None
        left += free[name].bytes - part.held
        made[name] = part
    if left < 0:
        return None
    placements = dict(graph.placements)
    for name in free:
        # What runs takes of what others can give: it comes back once. Only what passes through takes nothing.
        more: int | None = room - _beside(graph, name)
        if name in made and name not in looped:
            more = None if made.keys() & looped else left + reserve + made[name].held
        placements[name] = replace(placements[name], room=more)
        if name in made and made[name].buffer:
            why = f"idle: keep, and {_mib(sum(size or 0 for size in sizes.values()))} do not fit"
            placements[name] = replace(placements[name], policy=Policy.STREAM, split=made[name], why=why)
    return replace(graph, placements=placements)


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
    prefetch = _prefetch(graph, name)
    if placement.policy is Policy.STREAM:
        wanted = said.resident.of(blocks.bytes) if said is not None and said.resident is not None else None
        if wanted is not None:
            return replace(placement, split=split(blocks, wanted, prefetch))
        chosen = _chosen(graph, name, blocks, room, prefetch) or split(blocks, 0, 1)
        return replace(placement, split=chosen, room=None if room is None else room - _beside(graph, name))
    if room is None or _choosable(graph, name) is None or graph.plan.semantics is Semantics.DIFFUSERS:
        return placement
    left = room - _beside(graph, name)
    placement = replace(placement, room=left)
    if blocks.bytes <= left - left_free_beside_all(graph.activations, _run_beside(graph, name), room):
        return placement
    made = _chosen(graph, name, blocks, room, prefetch)
    if made is None or not made.buffer:
        return placement  # the schedule says by how much it does not fit
    short = "do not fit in" if blocks.bytes > left else "leave too little for activations in"
    why = f"its {_mib(blocks.bytes)} {short} {_mib(left)}; {_mib(made.resident)} of it stay"
    return replace(placement, policy=Policy.STREAM, split=made, why=why)


def _choosable(graph: Graph, name: str) -> Blocks | None:
    """The blocks of a component whose policy the plan leaves to us."""
    said, placement = graph.plan.components.get(name), graph.placements[name]
    free = placement.policy is Policy.OFFLOAD and (said is None or said.policy is None)
    return graph.target.components[name].blocks if free else None


def _prefetch(graph: Graph, name: str) -> int:
    said = graph.placements[name].prefetch
    return PREFETCH if said is None else said


def _chosen(graph: Graph, name: str, blocks: Blocks, room: int | None, prefetch: int) -> Split | None:
    """As much as the budget lets stay, with room for activations and all their scratch if it can be had."""
    if room is None:
        return split(blocks, 0, prefetch)
    left, runs = room - _beside(graph, name), _run_beside(graph, name)
    comfortable = _quickest(graph, name, blocks, left - left_free_beside_all(graph.activations, runs, room))
    least = max(needed(graph.activations, other) for other in runs)
    return comfortable or _quickest(graph, name, blocks, left - least)


def _quickest(graph: Graph, name: str, blocks: Blocks, room: int) -> Split | None:
    """By how long its blocks compute, where that is predicted."""
    placement, prefetch = graph.placements[name], _prefetch(graph, name)
    depths = (prefetch,) if placement.prefetch is not None else (prefetch, prefetch + 1)
    return quickest(blocks, room, depths, dict(placement.pace), link=placement.link)


def _beside(graph: Graph, name: str) -> int:
    """The most that lies on the device beside ``name`` when it is in use."""
    always = {n for n, p in graph.placements.items() if p.policy is Policy.RESIDENT} | {*graph.on_demand}
    stages = [always, *(always | names for names in _together(graph, name))]
    return max(sum(graph.held(n) or 0 for n in names - {name}) for names in stages)


def _run_beside(graph: Graph, name: str) -> set[str]:
    """What runs while ``name`` lies on the device: itself, and what loops with it."""
    return {name}.union(*_together(graph, name))


def _together(graph: Graph, name: str) -> Iterator[set[str]]:
    """What each looped stage with ``name`` in it holds at once."""
    for node in graph.walk:
        if node.loop is not None and name in node.components:
            yield set(node.components)


def _told(graph: Graph, name: str, why: str) -> Diagnostic:
    placement = graph.placements[name]
    own = placement.span != graph.plan.span
    span = placement.span if own else graph.plan.place("/budget/vram")
    return finding(STREAMS, f'component "{name}" streams: {why}', span=span)


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.2f} MiB"
