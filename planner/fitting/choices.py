"""What a plan leaves open, as settings that could close it: choices for each component, and for idle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.fitting.phases import blocks_of
from planner.graph.model import Graph
from planner.graph.split import PREFETCH
from planner.plan.model import Component, Idle, Plan, Policy
from planner.target.model import Blocks

Settings = tuple[tuple[str, str], ...]
"""Keys (``components.unet.policy``) and values, as for ``--set``; () leaves all to the compiler."""

LEVELS = 4
LEAST = "1MiB"
"""Of blocks none stays: an amount that is smaller than any."""
SMALL = 64
"""A component of less than one of so many bytes of the budget streams no part of itself."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``settings`` for ``subject``, a component or "idle". Of the component, in bytes, ``low`` to ``high`` is
    on the device while it runs, and ``always`` at any time; ``exact``: an amount that activations do not
    lower at work, ``amount`` bytes; ``solved``: it is the one of the linear program's solution."""

    subject: str
    settings: Settings
    low: int = 0
    high: int = 0
    always: int = 0
    exact: bool = False
    amount: int = 0
    solved: bool = False

    @property
    def said(self) -> dict[str, str]:
        """``settings`` by the last part of their keys (``policy``)."""
        return {key.rpartition(".")[2]: value for key, value in self.settings}


Space = tuple[tuple[Choice, ...], ...]
"""For each subject its choices, the first of which leaves it to the compiler, or as the plan says it."""


def space_of(
    plan: Plan,
    graph: Graph,
    budget: int | None,
    *,
    idle: Sequence[Idle],
    levels: int = LEVELS,
    residents: bool = True,
) -> Space:
    """What is open in ``plan``, in the order of the pipeline's components.

    ``graph``: of it, wherever; ``budget``: bytes for weights and activations; ``idle``: what may be chosen;
    ``levels``: in how many steps the share of a streamed component that stays is tried; ``residents``:
    components may be placed for good."""
    found = []
    used = {name for node in graph.walk for name in node.components}
    for name in graph.placements:
        blocks = blocks_of(graph, name)
        if blocks is None or name not in used or graph.placements[name].excluded:
            continue
        made = [*_choices(plan, name, blocks, budget, levels, residents=residents)]
        if len(made) > 1:
            found.append(tuple(made))
    if len(idle) > 1:
        kept = [Choice("idle", (("idle", one.value),)) for one in idle if one is not plan.idle]
        found.append((Choice("idle", ()), *kept))
    return tuple(found)


def _choices(
    plan: Plan, name: str, blocks: Blocks, budget: int | None, levels: int, *, residents: bool
) -> Iterator[Choice]:
    said = plan.components.get(name)
    whole = blocks.bytes
    yield Choice(name, (), blocks.fixed, whole)
    if said is None or said.policy is None:
        if said is None or (said.resident is None and said.prefetch is None):
            yield _choice(name, Policy.OFFLOAD, {}, whole, whole)
            if residents:
                yield _choice(name, Policy.RESIDENT, {}, whole, whole, always=whole)
    elif said.policy is not Policy.STREAM:
        return
    if not blocks.streamable or (budget is not None and whole * SMALL < budget):
        return
    yield from _streamed(name, blocks, budget, said, levels)


def _streamed(
    name: str, blocks: Blocks, budget: int | None, said: Component | None, levels: int
) -> Iterator[Choice]:
    """How far ahead blocks come is left to the compiler, which plays one and two: with three Flux and
    Qwen-Image took 3 to 23% longer on an H200 than was predicted."""
    policy = Policy.STREAM if said is None or said.policy is None else None
    if policy is not None:
        yield _choice(name, policy, {}, blocks.fixed, blocks.bytes)
    if said is None or said.resident is None:
        for amount in _amounts(blocks, budget, levels):
            yield stream_of(name, blocks, amount, policy)


def stream_of(name: str, blocks: Blocks, amount: int, policy: Policy | None = Policy.STREAM) -> Choice:
    """Of the component ``amount`` bytes stay, to the MiB below, and the others come just in time."""
    ring = (PREFETCH + 1) * max(blocks.streamable)
    mib = amount >> 20
    said = {"resident": f"{mib}MiB" if mib else LEAST}
    high = min(max(blocks.fixed, mib << 20) + ring + max(blocks.streamable), blocks.bytes)
    return replace(_choice(name, policy, said, blocks.fixed, high), exact=True, amount=amount)


def _amounts(blocks: Blocks, budget: int | None, levels: int) -> Iterator[int]:
    yield 0
    for step in range(1, levels):
        amount = blocks.fixed + (blocks.bytes - blocks.fixed) * step // levels
        if budget is None or amount < budget:
            yield amount


def _choice(
    name: str,
    policy: Policy | None,
    more: Mapping[str, str],
    low: int,
    high: int,
    *,
    always: int = 0,
) -> Choice:
    said = ({} if policy is None else {"policy": policy.value}) | dict(more)
    settings = tuple((f"components.{name}.{key}", value) for key, value in said.items())
    return Choice(name, settings, low, high, always)
