"""The least budget with which a plan fits: found by compiling for others, so that following it always
helps."""

from __future__ import annotations

from dataclasses import replace

from planner.diagnostics.diagnostic import errors
from planner.graph.model import Graph
from planner.passes.residency import residency
from planner.plan.model import Policy
from planner.plan.units import MOST
from planner.schedule.course import course_of
from planner.schedule.fit import fit_findings

UNITS = (("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
FEW = 4
"""Of a unit: where the answer is fewer, the next smaller one says it."""


def least_budget(graph: Graph, overhead: int = 0) -> str | None:
    """``4397MiB``: with it as ``budget.vram`` the plan fits, and with one unit less it does not. None where
    no budget would do. ``overhead``: bytes of it that are not for weights."""
    fresh = _undecided(graph)
    enough = MOST
    for unit, size in UNITS:
        found = _first(fresh, overhead, enough, size)
        if found is None:
            return None
        if found >= FEW or size == 1:
            return f"{found}{unit}"
        enough = found * size
    return None


def _first(graph: Graph, overhead: int, enough: int, size: int) -> int | None:
    """The fewest ``size`` that fit, where one fewer does not."""
    low, high = 0, 1
    while not _fits(graph, high * size, overhead):
        low, high = high, high * 2
        if high * size > 2 * enough:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(graph, middle * size, overhead) else (middle, high)
    return high


def _fits(graph: Graph, budget: int, overhead: int) -> bool:
    made, _ = residency(graph, budget, overhead)
    return not errors(fit_findings(made, course_of(made, budget, overhead)))


def _undecided(graph: Graph) -> Graph:
    """Without what one budget made of it: splits, and the policies that the plan leaves open."""
    said = graph.plan.components
    fresh = {}
    for name, placement in graph.placements.items():
        opened = placement.policy is Policy.STREAM and (name not in said or said[name].policy is None)
        policy = Policy.OFFLOAD if opened else placement.policy
        fresh[name] = replace(placement, policy=policy, split=None, room=None)
    return replace(graph, placements=fresh)
