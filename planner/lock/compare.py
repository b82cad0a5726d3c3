"""Two contents of locks side by side: what they say otherwise, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

_ABSENT: Any = object()
_UNSAID: Mapping[str, Mapping[str, Any]] = {"picture": {"slicing": {}}}
"""What a section leaves out where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``section``: a key of a lock's content, and ``path`` what is below it; ``a`` and ``b``: values, None
    where there is none. Of ``steps`` they are lists: what one side has in a place, and what the other has."""

    section: str
    path: tuple[str, ...]
    a: Any
    b: Any


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Everything in which ``a`` and ``b`` differ, in the order of their keys. None where they are equal."""
    found: list[Difference] = []
    for section in dict.fromkeys((*a, *b)):
        one, other = (_whole(section, side.get(section)) for side in (a, b))
        if section == "steps":
            found += _steps(one or [], other or [])
        else:
            found += (Difference(section=section, path=p, a=x, b=y) for p, x, y in _below((), one, other))
    return tuple(found)


def _whole(section: str, said: Any) -> Any:
    return {**_UNSAID[section], **said} if section in _UNSAID and isinstance(said, Mapping) else said


def _below(path: tuple[str, ...], a: Any, b: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Mappings are compared key by key; whatever else there is, as a whole."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _below((*path, key), a.get(key, _ABSENT), b.get(key, _ABSENT))
    elif type(a) is not type(b) or a != b:
        yield path, None if a is _ABSENT else a, None if b is _ABSENT else b


def _steps(a: Sequence[Any], b: Sequence[Any]) -> Iterator[Difference]:
    """Steps are the same that do the same: of those that are, the bytes may still differ."""
    names, others = ([_name(step) for step in steps] for steps in (a, b))
    for how, first, last, begin, end in SequenceMatcher(None, names, others, autojunk=False).get_opcodes():
        if how != "equal":
            yield Difference(section="steps", path=(), a=[*a[first:last]], b=[*b[begin:end]])
            continue
        for one, other in zip(a[first:last], b[begin:end], strict=True):
            if one != other:
                yield Difference(section="steps", path=(), a=[one], b=[other])


def sized_otherwise(difference: Difference) -> bool:
    """Whether the steps of a difference do the same with other bytes."""
    return [*map(_name, difference.a)] == [*map(_name, difference.b)]


def _name(step: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(step.get(key) for key in ("do", "component", "entry", "stage", "times"))
