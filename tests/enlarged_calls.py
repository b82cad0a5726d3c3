"""Real classes as large as outside of tests: built small, their traced calls and sizes multiplied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from pipelines.all import arguments, build

from planner.cards.kernels import HOPPER
from planner.predict.allocator import ROUND
from planner.predict.profile import CallProfile, Operation, Turn, UseProfile, Weights
from planner.target.loaded import describe
from planner.target.model import Target
from planner.tracing.trace import trace

WHOLE = 4_000_000_000
"""Bytes of all weights, as far as a factor makes them that."""
MOST = 500_000_000
"""Bytes that the use allocates which allocates the most."""


@dataclass(frozen=True, slots=True)
class Enlarged:
    """A class's ``target``, its ``call``, and a plan's text without a budget; bytes of all ``weights``, and
    of what a use allocates at most (``activations``)."""

    target: Target
    call: CallProfile
    text: str
    weights: int
    activations: int

    def plan(self, vram: int) -> str:
        """With a budget in bytes."""
        return f"{self.text}budget: {{vram: {vram}B}}\n"


def enlarged(name: str) -> Enlarged:
    """The class of ``pipelines`` called ``name``: its components, blocks, walk, uses and their order are its
    own, its weights ``WHOLE`` bytes, its operations as many times as large as these, and its activations
    ``MOST`` bytes."""
    pipe = build(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        call = trace(pipe, arguments(name), HOPPER)
    sizes = sum(w.fixed + sum(n for _, n in w.blocks) for w in call.weights.values())
    weights, takes = WHOLE // sizes, MOST / max(use.peak() for use in call.uses)
    made = replace(
        call,
        uses=tuple(_use(use, weights, takes) for use in call.uses),
        turns=tuple(_turn(turn, takes) for turn in call.turns),
        weights={part: _weights(one, weights) for part, one in call.weights.items()},
        workspace=0,
    )
    target: Any = replace(describe(pipe), origin="catalogue")  # as traced, not as it is loaded
    cls = name.partition(":")[0]
    return Enlarged(
        target,
        made,
        f"version: 1\nname: x\npipeline: {{class: {cls}}}\n",
        sizes * weights,
        max(use.peak() for use in made.uses),
    )


def _turn(turn: Turn, takes: float) -> Turn:
    glue = tuple(_times(event, takes) if event > 0 else event for event in turn.glue)
    return replace(turn, held=_times(turn.held, takes), glue=glue)


def _use(use: UseProfile, weights: int, takes: float) -> UseProfile:
    return replace(
        use,
        inputs=_times(use.inputs, takes),
        output=_times(use.output, takes),
        room=_times(use.room, takes),
        events=tuple(_times(event, takes) if event > 0 else event for event in use.events),
        operations=tuple(_operation(one, weights) for one in use.operations),
    )


def _operation(one: Operation, times: int) -> Operation:
    """A shape would say that it is small."""
    return replace(one, flops=one.flops * times, bytes=one.bytes * times, shape=())


def _weights(one: Weights, times: int) -> Weights:
    return replace(one, fixed=one.fixed * times, blocks=tuple((path, n * times) for path, n in one.blocks))


def _times(nbytes: int, times: float) -> int:
    """As torch's allocator rounds, so that what is freed together fits again."""
    return -(-int(nbytes * times) // ROUND) * ROUND
