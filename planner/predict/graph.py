"""What a traced call tells the compiler: how weights split, what activations take, how long blocks run."""

from __future__ import annotations

from dataclasses import replace

from planner.cards.data import CardData
from planner.graph.model import Graph
from planner.plan.model import Plan
from planner.predict.clock import BUSY
from planner.predict.needs import activations_of
from planner.predict.pace import paces
from planner.predict.profile import CallProfile
from planner.target.model import Blocks, Target


def as_traced(target: Target, plan: Plan, call: CallProfile) -> Target:
    """With the blocks of the modules that were traced, which a folder's files tell less exactly. Not of what
    is quantized, which was traced as if it were not, nor of what is loaded, which tells itself. A component
    that a pipeline may be without, and whose size nothing tells, is not there where none was traced."""
    if target.origin == "loaded" or plan.loras:
        return target
    other = {rule.component for rule in plan.quantization}
    other |= {name for name, said in plan.components.items() if said.source is not None}
    components = {
        name: replace(info, present=False)
        if info.module and info.optional and info.bytes is None and name not in {*call.weights, *other}
        else info
        for name, info in target.components.items()
    }
    for name, weights in call.weights.items():
        info = components.get(name)
        if info is None or not info.present or name in other or info.quantized:
            continue
        blocks = Blocks(fixed=weights.fixed, streamable=tuple(nbytes for _, nbytes in weights.blocks))
        components[name] = replace(info, bytes=blocks.bytes, blocks=blocks)
    return replace(target, components=components)


def as_predicted(graph: Graph, call: CallProfile, card: CardData | None) -> Graph:
    """With the activations of ``call``; where the card's rates are known, with the pace of each component's
    blocks too."""
    known = {**activations_of(call), **graph.activations}
    graph = replace(graph, activations=known)
    if card is None:
        return graph
    found, link = paces(call, card), card.to_device.pinned.at((LARGE,)) * BUSY
    placements = {
        name: replace(placement, link=link, pace=found.get(name, ()) if _as_split(graph, name, call) else ())
        for name, placement in graph.placements.items()
    }
    return replace(graph, placements=placements)


def _as_split(graph: Graph, name: str, call: CallProfile) -> bool:
    """Whether its blocks are those that were traced."""
    blocks, weights = graph.target.components[name].blocks, call.weights.get(name)
    return blocks is not None and weights is not None and len(blocks.streamable) == len(weights.blocks)


LARGE = 64 << 20
"""Bytes of a copy by which a link's rate is taken: a block's."""
