"""A traced call with another number of denoising steps: they are alike, so none need be traced again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from planner.predict.profile import CallProfile, Turn

DENOISERS = ("unet", "transformer", "transformer_2")
FEW = 3
"""Steps that are like no other (a scheduler that begins to remember what models said) are no more than so
many, and stay as many."""

Body = tuple[Turn, ...]


def with_steps(call: CallProfile, steps: int) -> CallProfile | None:
    """``call`` with so many ``steps``; None where its steps cannot be told apart. Where two denoisers share
    them, each has its share, rounded.
    """
    turns = list(call.turns)
    at = [i for i, turn in enumerate(turns) if call.uses[turn.use].component in DENOISERS]
    if not at or at[-1] - at[0] + 1 != len(at) or call.steps < 1 or steps < 1:
        return None
    first, end = at[0], at[-1] + 1
    each = max(1, (end - first) // call.steps)
    if (end - first) % each:
        return None
    bodies = [tuple(turns[i : i + each]) for i in range(first, end, each)]
    many = len(bodies) - call.steps + steps
    made = [turn for body in _so_many(bodies, max(1, many)) for turn in body]
    return replace(
        call,
        turns=(*turns[:first], *made, *turns[end:]),
        steps=steps,
        arguments={**call.arguments, "num_inference_steps": steps},
    )


def _so_many(bodies: Sequence[Body], many: int) -> list[Body]:
    """``many`` of them, in phases as long, to one another, as they were. A phase's first body follows another
    phase: what the pipeline frees before it is that one's."""
    phases = [[*group] for _, group in groupby(bodies, _uses)]
    long = [len(p) for p in phases if len(p) > FEW] or [len(p) for p in phases]
    short = sum(map(len, phases)) - sum(long)
    if many <= short:
        phases = [max(phases, key=len)]
        short, long = 0, [len(phases[0])]
    left, whole = many - short, sum(long)
    made: list[Body] = []
    seen = done = 0
    for phase in phases:
        if len(phase) not in long:
            made += phase
            continue
        seen += len(phase)
        upto = round(left * seen / whole)
        made += [phase[min(at, len(phase) - 1)] for at in range(upto - done)]
        done = upto
    return made


def _uses(body: Body) -> list[tuple[int, int]]:
    return [(turn.use, turn.held) for turn in body]
