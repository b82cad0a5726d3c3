"""Replays a schedule with code of its own, and believes none of what the schedule says of itself.

It shares nothing with ``lower``, ``guide`` or ``fit``: it reads the steps, the graph and the sizes.
A finding here is a fault of ours, never of the plan.
"""

from __future__ import annotations

from planner.graph.model import Graph
from planner.plan.model import Idle, Policy, Semantics
from planner.schedule.model import Schedule


def verify(schedule: Schedule, graph: Graph) -> tuple[str, ...]:
    """What is wrong with ``schedule``, in words; empty when it holds.

    Every use finds its component on the device, a looped stage keeps its components to its end, no
    step passes the budget, the bytes add up, the uses are those of the walk, and at the end nothing
    is left but what may stay.
    """
    wrong: list[str] = []
    on_device: dict[str, int | None] = {}
    uses: list[tuple[str, str, str]] = []
    stays = {p.component for p in graph.placements.values() if p.policy is Policy.RESIDENT}
    loops: dict[str, set[str]] = {node.id: set() for node in graph.walk if node.loop is not None}
    highest: int | None = 0
    for number, step in enumerate(schedule.steps, 1):
        where = f"step {number} ({step.do} {step.component})"
        whole = _size(graph, step.component)
        there = on_device.get(step.component, 0)
        if step.do == "prefetch":
            if step.component in on_device:
                wrong.append(f"{where}: it is on the device already")
            if step.bytes is None or whole is None or not 0 < step.bytes <= whole:
                wrong.append(f"{where}: {step.bytes} bytes of its {whole} are no part")
            on_device[step.component] = step.bytes
        elif step.do in ("load", "place"):
            if step.component in on_device and there == whole:
                wrong.append(f"{where}: it is on the device already")
            if whole is not None and there is not None and step.bytes != whole - there:
                wrong.append(f"{where}: {step.bytes} bytes come, and it lacks {whole - there}")
            on_device[step.component] = whole
        elif step.do == "evict":
            if on_device.pop(step.component, -1) == -1:
                wrong.append(f"{where}: it is not on the device")
            if step.component in stays:
                wrong.append(f"{where}: it may never leave")
            if _bound(graph) and step.component in loops.get(step.stage, ()):
                wrong.append(f'{where}: stage "{step.stage}" loops and needs it again')
        elif step.do == "use":
            if step.component not in on_device:
                wrong.append(f"{where}: it is not on the device")
            elif there != whole:
                wrong.append(f"{where}: only {there} bytes of it are on the device")
            if step.stage in loops:
                loops[step.stage].add(step.component)
            uses.append((step.stage, step.component, step.entry))
        else:
            wrong.append(f"{where}: no such step")
        total: int | None = 0
        for size in on_device.values():
            total = None if size is None or total is None else total + size
        if total != step.after:
            wrong.append(f"{where}: {total} bytes are on the device, not {step.after}")
        highest = None if total is None or highest is None else max(highest, total)
        budget = schedule.course.budget
        if budget is not None and total is not None and total > budget and _bound(graph):
            wrong.append(f"{where}: {total} bytes pass the budget of {budget}")
    wrong += _walked(uses, graph)
    # What comes on demand may come at any step: a peak is promised only where all sizes are known.
    known = all(_size(graph, name) is not None for name in graph.placements)
    if known != (schedule.peak is not None) or (
        highest is not None and (schedule.peak or 0) < highest and known
    ):
        wrong.append(f"the peak is {highest}, and the schedule promises {schedule.peak}")
    left = set(on_device) - stays
    if left and graph.plan.idle is Idle.RELEASE:
        wrong.append(f"left on the device at the end: {', '.join(sorted(left))}")
    return tuple(wrong)


def _size(graph: Graph, component: str) -> int | None:
    """What lies on the device: all of it, or of a streamed one what stays and the buffers."""
    split = graph.placements[component].split
    if split is not None:
        return split.resident + split.buffer
    streams = graph.placements[component].policy is Policy.STREAM
    return None if streams else graph.target.components[component].bytes


def _bound(graph: Graph) -> bool:
    """Under ``semantics: diffusers`` the moves are what they are: neither budget nor loop binds them."""
    return graph.plan.semantics is Semantics.LIVENESS


def _walked(uses: list[tuple[str, str, str]], graph: Graph) -> list[str]:
    """The uses are the walk's, in its order, those of a repeated group once more for each group around."""
    order = list(range(len(graph.walk)))
    # The widest groups first: each doubles every run of its stages that is there already.
    for group in sorted(graph.repeats, key=lambda r: r.first - r.last):
        inside = range(group.first, group.last + 1)
        order = [p for at in order for p in ((at, *inside) if at == group.last else (at,))]
    expected = [
        (node.id, run.component, run.entry) for node in (graph.walk[p] for p in order) for run in node.runs
    ]
    return [] if uses == expected else [f"the uses are {uses}, and the walk is {expected}"]
