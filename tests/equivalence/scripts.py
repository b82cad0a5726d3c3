"""Call scripts: in which order a pipeline's ``__call__`` runs its components."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from zlib import crc32

from equivalence.stubs import UNSEEN, known, real_class, seen
from planner.target.model import WalkStage, WalkUse

TIMES = 2
"""Passes through each loop: enough for the last use of a pass to meet the first of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One call. ``absent`` components are None; ``fails`` raises in place of the use after the last step;
    ``whole``: uses that diffusers' hooks do not see are among the steps."""

    name: str
    steps: tuple[WalkUse, ...]
    absent: frozenset[str] = frozenset()
    fails: bool = False
    whole: bool = False


def scripts(name: str) -> Iterator[Script]:
    """The class's own walk, and the variations of it. Those of one ``absent`` come one after another.

    Each is played with the uses that diffusers' hooks can see; where the class has others, once more
    with all of them (``whole``).
    """
    for script in _variations(name):
        steps = tuple(s for s in script.steps if seen(name, s.component, s.entry) not in UNSEEN)
        yield replace(script, steps=steps)
        if steps != script.steps:
            yield replace(script, name=f"{script.name}, all uses", whole=True)


def is_usual(script: Script) -> bool:
    """One of each kind of variation: for every run of the tests. ``pytest -m wide`` has all of them."""
    name = script.name.removesuffix(", all uses")
    kinds = {"walk", "again", "fails at 0", "after the failure at 0", "vae first", "without vae", "mixed 0"}
    return name in kinds or len(script.absent) > 1


@cache
def frees(name: str) -> bool:
    """Whether the class's ``__call__`` ends with ``maybe_free_model_hooks``."""
    return "maybe_free_model_hooks()" in inspect.getsource(inspect.unwrap(real_class(name).__call__))


def _variations(name: str) -> Iterator[Script]:
    target = known(name)
    walk = tuple(_steps(target.walk or ()))
    yield Script(name="walk", steps=walk)
    yield Script(name="again", steps=walk)
    encodes = tuple(step for step in walk if step.entry == "encode")
    for component in dict.fromkeys(s.component for s in walk if s.entry == "decode"):
        first = encodes or (WalkUse(component=component, entry="decode"),)
        yield Script(name=f"{component} first", steps=(*first, *walk))
    for component in dict.fromkeys(step.component for step in walk):
        rest = tuple(step for step in walk if step.component != component)
        yield Script(name=f"without {component}", steps=rest)
    for at in _spread(len(walk), 6):
        yield Script(name=f"fails at {at}", steps=walk[:at], fails=True)
        yield Script(name=f"after the failure at {at}", steps=walk)
    mixer = random.Random(crc32(name.encode()))
    for turn in range(3):
        mixed = [*walk, *mixer.sample(walk, len(walk) // 2)]
        mixer.shuffle(mixed)
        yield Script(name=f"mixed {turn}", steps=tuple(mixed))
    optional = [n for n in target.modules if target.components[n].optional]
    sets = [frozenset({n}) for n in optional] + ([frozenset(optional)] if len(optional) > 1 else [])
    for absent in sets:
        yield Script(name=f"None: {', '.join(sorted(absent))}", steps=walk, absent=absent)


def _steps(stages: Sequence[WalkStage]) -> Iterator[WalkUse]:
    for stage in stages:
        for _ in range(TIMES if stage.loop else 1):
            yield from stage.runs
            yield from _steps(stage.stages)


def _spread(length: int, most: int) -> list[int]:
    """Up to ``most`` places in a script of ``length`` steps, the first and the last among them."""
    return sorted({round(i * length / (most - 1)) for i in range(most)})
