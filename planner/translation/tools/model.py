"""What a tool takes, and the plan that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic
from planner.target.model import Target

WRONG: Any = object()
"""What a kind makes of a value that the tool would not take."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting may be: ``expects`` in words, ``read`` makes the value, or WRONG."""

    expects: str
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. With ``lost`` it has no place in a plan: ``why`` is said where it is set."""

    name: str
    kind: Kind
    default: Any = None
    lost: Code | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A key of the plan, its value, and where it comes from (a comment at its end)."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The parts of a plan that settings can say; what is left out has the language's defaults.

    ``rules``: quantization, each mapping with its reason as ``Line("", mapping, why)``; ``order`` where
    the class's own walk is not known, or where the semantics want one.
    """

    device: Line | None = None
    budget: tuple[Line, ...] = ()
    components: tuple[Line, ...] = ()
    order: Line | None = None
    exclude: Line | None = None
    rules: tuple[Line, ...] = ()
    semantics: Line | None = None
    idle: Line | None = None


Values = Mapping[str, Any]
"""Every setting of a tool, read, with its default where it was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool whose settings can be made into a plan.

    ``settings`` in the order in which its call takes them, ``before`` of them other arguments that come
    first (the pipeline). A bare text or number is the value of ``short``, and so is a mapping that has
    none of the settings' names and is ``nested``. ``calls`` are the names of its call; ``parts`` those that
    take one component first, for a tool that can be called for components one by one; ``implied`` are
    settings that a call has by its name. ``draft`` makes the plan's parts of checked values.
    """

    name: str
    title: str
    takes: str
    example: str
    settings: tuple[Setting, ...]
    draft: Callable[[Values, Target], tuple[Draft, tuple[Diagnostic, ...]]]
    short: str = ""
    nested: Callable[[Mapping[str, Any]], bool] | None = None
    before: int = 0
    calls: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    implied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
