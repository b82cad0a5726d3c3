"""What an editor may offer of a pipeline class: its components, their entry points, its arguments.

One ``if`` for each component, entry point and argument (for several that the same classes have); where no
class is written, or one that the catalogue does not have, all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from planner.document.language.shape import Shape, ref
from planner.editor.arguments import DOCUMENTED, documented
from planner.editor.offer import of_list, offered
from planner.plan.run import SEED
from planner.target.catalogue import find, names
from planner.target.model import Target

_MOST = 0.6
"""An argument that this share of the classes has is offered for all of them."""


@dataclass(frozen=True, slots=True)
class Offers:
    """``definitions`` that ``branches``, rules of a whole plan or a part, refer to; ``anything``: every
    component and entry point, as items of a list."""

    definitions: Shape
    branches: list[Shape]
    anything: Shape


def offers() -> Offers:
    """Of every class of the newest catalogue that ships."""
    found = {name: target for name in names() if (target := find(name)) is not None}
    components = _having(found, lambda target: target.modules)
    entries = _having(found, entries_of)
    rare = _having(found, lambda target: [name for name in arguments_of(target) if name in DOCUMENTED])
    for name in common_arguments():
        rare.pop(name, None)
    known = {"pattern": _pattern(found), "properties": {"class": ref("known")}}
    definitions: Shape = {
        "classes": offered(found),
        "known": {"type": ["string", "object"], "required": ["class"], **known},
        "any-component": of_list(components),
        "any-use": of_list([*components, *entries]),
        **{f"run-{name}": documented(name) for name in rare},
    }
    branches: list[Shape] = []
    for classes, listed in _alike(components):
        name = f"n{len(branches)}"
        definitions[name] = of_list(listed)
        keys = components_of(listed, ref(name))
        branches.append(_when(name, classes, found, keys, definitions))
    for classes, listed in _alike(entries):
        name = f"n{len(branches)}"
        definitions[name] = of_list(listed)
        branches.append(_when(name, classes, found, uses_of(ref(name)), definitions))
    for classes, listed in _alike(rare):
        keys = arguments({argument: ref(f"run-{argument}") for argument in listed})
        branches.append(_when(f"n{len(branches)}", classes, found, keys, definitions))
    definitions["of-any"] = beside(
        components_of(components, ref("any-component"), ref("any-use"))
        | arguments({name: ref(f"run-{name}") for name in rare})
    )
    definitions["of-class"] = {"allOf": branches}
    is_known = {"required": ["pipeline"], "properties": {"pipeline": ref("known")}}
    rule = {"if": is_known, "then": ref("of-class"), "else": ref("of-any")}
    return Offers(definitions, [rule], ref("any-use"))


def common_arguments() -> Shape:
    """Arguments that most classes have, and the seed."""
    calls = [arguments_of(target) for name in names() if (target := find(name)) is not None]
    common = [n for n in DOCUMENTED if n == SEED or sum(n in call for call in calls) >= _MOST * len(calls)]
    return {name: documented(name) for name in common}


def components_of(listed: Iterable[str], name: Shape, use: Shape | None = None) -> Shape:
    """Of the keys of a plan, as patterns, those that name components: ``listed``, or in a list ``name``;
    ``use``: where an entry point may stand too, when that is another."""
    components = {
        "^components$": {"properties": {one: ref("named") for one in listed}},
        "^quantization$": {"items": {"properties": {"component": name}}},
    }
    if use is None:
        return {**components, "^(exclude|order)$": {"items": name}, "^stages$": _runs(name)}
    return {**components, "^exclude$": {"items": name}, **uses_of(use)}


def uses_of(name: Shape) -> Shape:
    """Those that name components or entry points."""
    return {"^order$": {"items": name}, "^stages$": _runs(name)}


def _runs(name: Shape) -> Shape:
    return {"items": beside({"^runs$": {"items": name}})}


def arguments(listed: Shape) -> Shape:
    """The key that has the arguments of the call."""
    return {"^run$": {"properties": listed}}


def beside(keys: Shape) -> Shape:
    """More of keys that another schema explains: editors offer all ``properties``, and would do so twice."""
    return {"patternProperties": keys}


def entries_of(target: Target) -> list[str]:
    """The entry points that a class's own source names."""
    return [f"{name}.{entry}" for name in target.modules for entry in target.components[name].entries]


def arguments_of(target: Target) -> tuple[str, ...]:
    """The arguments of its call."""
    return () if target.call is None else tuple(target.call.arguments)


def _having(found: Mapping[str, Target], names_of: Callable[[Target], Iterable[str]]) -> dict[str, list[str]]:
    """Which classes have each name, those that most have first."""
    having: dict[str, list[str]] = {}
    for cls, target in found.items():
        for name in names_of(target):
            having.setdefault(name, []).append(cls)
    return dict(sorted(having.items(), key=lambda one: (-len(one[1]), one[0])))


def _alike(having: Mapping[str, list[str]]) -> list[tuple[list[str], list[str]]]:
    """Classes, and the names that just these have: one rule for them."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name, classes in having.items():
        names_of.setdefault(tuple(classes), []).append(name)
    return [([*classes], listed) for classes, listed in names_of.items()]


def _when(name: str, classes: Sequence[str], known: Iterable[str], keys: Shape, definitions: Shape) -> Shape:
    """``keys`` for ``classes``; that the class is one of ``known`` is tested before.

    The test, one of ``definitions``, refers to itself: a pipeline is a class, or a mapping whose class is
    one. A pattern is shorter than an ``enum``, and takes no name that is only begun.
    """
    test = f"is-{name}"
    others = _pattern(sorted({*known} - {*classes})).removeprefix("^")
    pattern = min(_pattern(classes), f"^(?!{others})", key=len)
    definitions[test] = {"pattern": pattern, "properties": {"class": ref(test)}}
    return {"if": {"properties": {"pipeline": ref(test)}}, "then": beside(keys)}


def _pattern(words: Iterable[str]) -> str:
    return f"^{_one_of(sorted(words))}$"


def _one_of(words: Sequence[str]) -> str:
    """One of ``words``, which are sorted: common beginnings and ends are written once."""
    if len(words) == 1:
        return re.escape(words[0])
    end = _start([word[::-1] for word in words])[::-1]
    if end:
        return _one_of([word.removesuffix(end) for word in words]) + re.escape(end)
    firsts = groupby(words, key=lambda word: word[:1])
    parts = [_beginning([*group]) for _, group in firsts]
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


def _beginning(words: Sequence[str]) -> str:
    start = _start(words)
    return re.escape(start) + _one_of([word.removeprefix(start) for word in words]) if start else ""


def _start(words: Sequence[str]) -> str:
    """What all of ``words`` begin with."""
    first, last = min(words), max(words)
    different = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(different, min(len(first), len(last)))]
