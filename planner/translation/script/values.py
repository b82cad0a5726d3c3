"""What an expression of a snippet stands for, as far as its text tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from planner.source.text import Span
from planner.translation.tools.kinds import shown


@dataclass(frozen=True, slots=True)
class Known:
    """A literal; or, ``named``, a name that stands for itself (``torch.bfloat16`` is ``bfloat16``), whose own
    value is known only when it runs."""

    value: Any
    named: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Many:
    """A list, a tuple or a set."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A dictionary."""

    items: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component of it, or with ``inside`` a module in that component."""

    name: str
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """What else an object has: ``pipe._exclude_from_cpu_offload``, ``pipe.unet`` of a class without one."""

    of: Value
    name: str


@dataclass(frozen=True, slots=True)
class Made:
    """What a call made that is neither: a configuration, a manager; with ``loaded`` a model, whose name in
    the pipeline is not said yet. ``name``: of the class."""

    name: str
    act: Act
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Known when it runs, and not before."""

    text: str


Value: TypeAlias = Known | Many | Pairs | Pipeline | Component | Member | Made | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A call: the last name of what is called, on what, with what; ``path`` is all that stands before the
    parenthesis. ``places``: of arguments, by name or by number. ``spread``: ``*`` or ``**`` is among them."""

    name: str
    path: str
    receiver: Value | None
    args: tuple[Value, ...]
    keywords: Mapping[str, Value]
    span: Span
    places: Mapping[str, Span]
    spread: bool = False

    @classmethod
    def bare(cls, path: str, span: Span) -> Act:
        """A call without arguments that stands nowhere: that of a constructor."""
        return cls(name=path, path=path, receiver=None, args=(), keywords={}, span=span, places={})


class NotKnown(Exception):
    """A value that only running the snippet would give; its text."""


def plain(value: Value) -> Any:
    """The Python value. Raises NotKnown."""
    match value:
        case Known(value=known):
            return known
        case Many(items=items):
            return [plain(item) for item in items]
        case Pairs(items=pairs):
            return {_key(plain(key)): plain(inner) for key, inner in pairs}
        case Component(name=name, inside=""):
            return name
        case Made(name=name):
            raise NotKnown(f"{name}(...)")
        case Unknown(text=text):
            raise NotKnown(text)
        case Member(name=name):
            raise NotKnown(name)
    raise NotKnown("the pipeline")


def texts(made: Any) -> list[str] | None:
    """A text or a list of texts as a list; None for what is neither."""
    if isinstance(made, str):
        return [made]
    return made if isinstance(made, list) and all(isinstance(one, str) for one in made) else None


def names_of(value: Value) -> list[str]:
    """The texts that an argument for one name or several has; none for None. Raises NotKnown."""
    if (made := plain(value)) is None:
        return []
    if (found := texts(made)) is None:
        raise NotKnown(str(made))
    return found


def words(value: Value) -> str:
    """A value in a message."""
    try:
        return shown(plain(value))
    except NotKnown as error:
        return shown(str(error))


def _key(made: Any) -> Any:
    if isinstance(made, (list, dict)):
        raise NotKnown("a list or a mapping as a key")
    return made
