"""What a tool takes, and the plan that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
    loras: tuple[Line, ...] = ()
    semantics: Line | None = None
    idle: Line | None = None


Values = Mapping[str, Any]
"""Every setting of a tool, read, with its default where it was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A tool's command line: ``programs`` are words that it begins with; ``positional`` is what a word
    without an option is.

    ``options`` are other names of settings; ``fixed``: options that are a setting's value (``--no-x``);
    ``several``: options that take all words up to the next option; ``pipeline``: options that are keys of
    the plan's ``pipeline``. ``elsewhere``: options that are not about where weights lie, by how their names
    begin, and ``spread`` those for several cards, which matter above 1.
    """

    programs: tuple[tuple[str, ...], ...]
    positional: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    several: tuple[str, ...] = ()
    pipeline: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """A tool's call for one component. ``line`` makes its line of the plan, None where the component is not
    moved; ``said`` what does not carry over, with pointers under the path that it is given."""

    settings: tuple[Setting, ...]
    line: Callable[[str, Values], Line | None]
    said: Callable[[Values, tuple[str, ...]], Iterable[Diagnostic]]

    def reader(self, tool: Tool) -> Tool:
        """A tool with the settings of one component, for ``read``."""
        return replace(tool, settings=self.settings, short="", nested=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool whose settings can be made into a plan.

    ``settings`` in the order in which its call takes them, ``before`` of them other arguments that come
    first (the pipeline). A bare text or number is the value of ``short``, and so is a mapping that has
    none of the settings' names and is ``nested``. ``calls`` are the names of its call; ``parts`` those that
    take one component first, for a tool that can be called for components one by one; ``implied`` are
    settings that a call has by its name; ``modules`` are what its functions are called on, where their
    names alone could be anybody's; ``one`` is for a call that takes one component. ``command`` reads the
    tool's command line. ``draft`` makes the plan's parts of checked values.
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
    modules: tuple[str, ...] = ()
    one: One | None = None
    command: Command | None = None
    implied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
