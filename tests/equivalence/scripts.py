"""Call scripts: in which order a pipeline's ``__call__`` runs its components."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from zlib import crc32

from equivalence.declared import OWN_METHOD, UNSEEN_IN_WALK
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


KINDS = (
    {"again"},
    {"fails at 0", "after the failure at 0"},
    {"vae first"},
    {"without vae"},
    {"mixed 0"},
)
"""One variation of each kind, or two that follow each other."""


def is_usual(name: str, script: Script) -> bool:
    """For every run of the tests: the walk of the class ``name``, and two kinds of variation by turns of the
    classes; of every third class a pipeline that lacks several components. ``pytest -m wide`` has all."""
    turn = crc32(name.encode())
    kinds = {"walk"} | KINDS[turn % len(KINDS)] | KINDS[(turn + 1) % len(KINDS)]
    return script.name.removesuffix(", all uses") in kinds or (len(script.absent) > 1 and turn % 3 == 0)


def first_of_alike(names: Iterable[str]) -> tuple[str, ...]:
    """For every run of the tests: the first of the classes that are alike to either offload. Their sequence,
    their walk as hooks see it, what is excluded, what may be absent and how they free are the same."""
    found: dict[object, str] = {}
    for name in names:
        target = known(name)
        walk = tuple(
            (s.component, s.entry, seen(name, s.component, s.entry)) for s in _steps(target.walk or ())
        )
        modules = tuple((n, target.components[n].optional) for n in target.modules)
        own = name if name in OWN_METHOD or name in UNSEEN_IN_WALK else ""
        found.setdefault((target.sequence, target.excluded, walk, modules, frees(name), own), name)
    return tuple(found.values())


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
