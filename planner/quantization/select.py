"""Which modules of a component each of its rules takes: in order, the first that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.plan.model import QuantizationRule
from planner.plan.pattern import Searches
from planner.quantization.backends import ADAPTERS, BACKENDS, CAST_SKIPS
from planner.target.parts import KINDS, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one rule takes of a component, and what it would take if no rule stood above it.

    ``sure``: whether it takes them all, whatever a header leaves open of their kinds and classes.
    """

    rule: QuantizationRule
    parts: tuple[Part, ...]
    wanted: tuple[Part, ...]
    sure: bool = True

    @property
    def names(self) -> frozenset[str]:
        """Of the modules that it takes."""
        return frozenset(part.name for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeps:
    """What a model's class asks to leave alone: ``float32`` are parts of names that loading keeps in
    float32, ``cast`` regular expressions that casting skips (None when not known), ``whole`` names of
    modules."""

    float32: tuple[str, ...] = ()
    cast: tuple[str, ...] | None = ()
    whole: frozenset[str] = frozenset()


def take(rules: Sequence[QuantizationRule], parts: Sequence[Part], keeps: Keeps) -> tuple[Taken, ...]:
    """For each of one component's ``rules`` the modules that it takes.

    Where a header leaves open what a module is (a Linear or an Embedding), each rule takes the kinds that
    it can, so one module may be taken twice; of a built model every module is taken once. Raises TooSlow.
    """
    left = {part.name: set(part.kinds) for part in parts}
    made, searches = [], Searches()
    for rule in rules:
        wanted, taken = [], []
        sure = rule.backend != "layerwise_cast" or keeps.cast is not None
        for part in parts:
            kinds = _kinds(rule, part, keeps, searches)
            if kinds:
                wanted.append(part)
            if kinds & left[part.name]:
                taken.append(part)
                left[part.name] -= kinds
                named = part.classes is not None or KINDS.issuperset(rule.classes)
                sure = sure and kinds == part.kinds and named
        made.append(Taken(rule=rule, parts=tuple(taken), wanted=tuple(wanted), sure=sure))
    return tuple(made)


def _kinds(rule: QuantizationRule, part: Part, keeps: Keeps, searches: Searches) -> frozenset[str]:
    """The kinds that ``part`` may be of and that ``rule`` takes; none when its name or class is not meant."""
    kinds = part.kinds & BACKENDS[rule.backend].kinds
    if not kinds or part.name in keeps.whole or _skipped(rule, part.name, keeps, searches):
        return frozenset()
    if rule.match is not None and not searches.found(rule.match, part.name):
        return frozenset()
    if rule.classes and part.classes is not None and not part.classes.intersection(rule.classes):
        return frozenset()
    if rule.classes and part.classes is None and KINDS.issuperset(rule.classes):
        return kinds.intersection(rule.classes)
    return kinds


def _skipped(rule: QuantizationRule, name: str, keeps: Keeps, searches: Searches) -> bool:
    """A module is left alone when its name, or that of one it lies in, is one to skip."""
    steps = name.split(".")
    if any(step in keeps.float32 or step in ADAPTERS for step in steps):
        return True
    own: Iterable[str] = ()
    if rule.backend == "layerwise_cast":
        # diffusers' casting searches for all of them, those of the adapters and of float32 too.
        own = (*CAST_SKIPS, *(keeps.cast or ()), *keeps.float32, *ADAPTERS)
    above = [".".join(steps[:n]) for n in range(1, len(steps) + 1)]
    return any(searches.found(pattern, prefix) for pattern in rule.skip for prefix in above) or any(
        re.search(pattern, prefix) for pattern in own for prefix in above
    )
