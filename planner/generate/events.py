"""What happened while a source was read: uses in call order, and the loops around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One use of a component. ``optional``: it was found under a condition.

    ``choice``: it, or another in its place, certainly happens (one model for the early steps, one
    for the late).
    """

    component: str
    entry: str
    optional: bool = False
    choice: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What the use is, whether it must happen or not."""
        return (self.component, self.entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """The body of a loop. ``over`` is the text of what it goes over."""

    over: str
    body: tuple[Event, ...]


Event = Ran | Looped


def flat(events: Iterable[Event]) -> Iterator[Ran]:
    """The uses, loops opened."""
    for event in events:
        if isinstance(event, Ran):
            yield event
        else:
            yield from flat(event.body)


def maybe(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same, none of them certain."""
    return tuple(
        replace(e, optional=True, choice=False) if isinstance(e, Ran) else replace(e, body=maybe(e.body))
        for e in events
    )


def either(first: tuple[Event, ...], second: tuple[Event, ...]) -> tuple[Event, ...]:
    """One of two branches ran: what both have for certain is certain, in the first one's order."""
    if first == second:
        return first
    here, there = _certain(first), _certain(second)
    choice = bool((here or _chosen(first)) and (there or _chosen(second)))
    known = {use.key for use in flat(first)}
    rest = _without(second, known)
    return (*_keep(first, there, choice), *_keep(rest, here, choice))


def _certain(events: Iterable[Event]) -> set[tuple[str, str]]:
    return {use.key for use in flat(events) if not use.optional}


def _chosen(events: Iterable[Event]) -> bool:
    return any(use.choice for use in flat(events))


def _keep(events: Iterable[Event], certain: set[tuple[str, str]], choice: bool) -> tuple[Event, ...]:
    found: list[Event] = []
    for event in events:
        if isinstance(event, Looped):
            found.append(replace(event, body=_keep(event.body, certain, choice)))
            continue
        optional = event.optional or event.key not in certain
        chosen = choice and optional and (event.choice or not event.optional)
        found.append(replace(event, optional=optional, choice=chosen))
    return tuple(found)


def _without(events: Iterable[Event], known: set[tuple[str, str]]) -> tuple[Event, ...]:
    """Events with a use that is not known; a loop stays whole."""
    return tuple(e for e in events if any(use.key not in known for use in flat((e,))))
