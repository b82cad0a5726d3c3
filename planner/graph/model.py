"""The walk that a pipeline makes, stage by stage, and what the plan wants of each component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import networkx as nx

from planner.graph.activations import Predicted
from planner.graph.split import Split
from planner.plan.model import Loop, Plan, Policy
from planner.source.text import Span
from planner.target.model import Target

LINK = 50e9
"""Bytes a second from pinned host memory to the device, as measured over PCIe 5 with blocks of this kind:
where nothing says how fast a card's link is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One use in the walk. ``optional``: the pipeline may leave it out."""

    component: str
    entry: str
    optional: bool
    span: Span

    def __str__(self) -> str:
        return f"{self.component}.{self.entry}" if self.entry else self.component


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One stage of the walk, nested ones flattened to ``outer/inner``."""

    id: str
    runs: tuple[Run, ...]
    loop: Loop | None
    span: Span

    @property
    def components(self) -> tuple[str, ...]:
        """Each component once, in the order of first use."""
        return tuple(dict.fromkeys(run.component for run in self.runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Stages ``first`` to ``last`` of the walk, both included, run again and again as a group."""

    id: str
    first: int
    last: int
    loop: Loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What happens to one component, and why: the plan's word or the compiler's choice.

    ``split``: which part of a streamed component stays; None where its blocks are not known, or it does
    not stream. ``room``: bytes that the budget leaves for its weights and for activations, where the compiler
    may choose how much of it stays; None where the plan says so itself, or where there is no budget.
    ``prefetch``: blocks that come ahead, where the plan says so; ``pace``: number and predicted seconds of
    each block, in the order in which they run, () where nothing is predicted; ``link``: bytes a second to the
    device.
    """

    component: str
    policy: Policy
    excluded: bool
    why: str
    span: Span
    split: Split | None = None
    room: int | None = None
    prefetch: int | None = None
    pace: tuple[tuple[int, float], ...] = ()
    link: float = LINK

    @property
    def streams(self) -> bool:
        """Whether any of it comes and goes while it is in use."""
        return self.policy is Policy.STREAM and (self.split is None or self.split.buffer > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The walk, in order, with everything a schedule needs to be made from it.

    ``edges`` are pairs of stage ids; ``unordered`` those pairs that no path orders. ``placements``
    has every component with weights that is present, in constructor order; ``on_demand`` those that
    are neither in the walk nor excluded: they come when they are called. ``activations``: predicted ones.
    """

    plan: Plan
    target: Target
    walk: tuple[Node, ...]
    repeats: tuple[Repeat, ...]
    edges: tuple[tuple[str, str], ...]
    unordered: tuple[tuple[str, str], ...]
    placements: Mapping[str, Placement]
    on_demand: tuple[str, ...]
    activations: Predicted = field(default_factory=dict)

    def held(self, component: str) -> int | None:
        """Bytes of a component on the device while it is in use; None when not known."""
        placement = self.placements[component]
        if placement.policy is Policy.STREAM:
            return None if placement.split is None else placement.split.held
        return self.target.components[component].bytes

    def dag(self) -> nx.DiGraph[str]:
        """The stages as a networkx DAG, each node with its ``runs``."""
        made: nx.DiGraph[str] = nx.DiGraph()
        for node in self.walk:
            made.add_node(node.id, runs=tuple(str(run) for run in node.runs))
        made.add_edges_from(self.edges)
        return made
