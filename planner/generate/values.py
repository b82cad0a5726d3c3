"""What the reader of pipeline sources knows of a value: which components it may be.

A ``Value`` is the set of things that an expression may evaluate to; the empty set is anything that
the reader does not follow (tensors, numbers).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A component, or what ``path`` leads to under it."""

    component: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wraps:
    """The result of a call that took whole components and may call them later."""

    refs: frozenset[Ref]


@dataclass(frozen=True, slots=True, kw_only=True)
class Const:
    """A literal: names for ``getattr``, indices."""

    value: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A Python object that a module of the source holds: a function, a class, a module."""

    thing: Any

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Live) and other.thing is self.thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq:
    """A list or tuple whose items are known."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A dict with literal keys."""

    items: tuple[tuple[str, Value], ...]


@dataclass(eq=False, slots=True, kw_only=True)
class Obj:
    """An instance of a class of the source: the pipeline itself, an inner one, a helper."""

    cls: type
    attrs: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False, slots=True, kw_only=True)
class Env:
    """Names of one function's scope; ``parent`` is the scope around it."""

    names: dict[str, Value]
    parent: Env | None = None

    def get(self, name: str) -> Value | None:
        """The value of ``name`` here or in a scope around, None when no scope has it."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return env.names[name]
            env = env.parent
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Func:
    """A function of the source with the scope it closes over; ``owner`` has it as a method."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    env: Env | None
    module: str
    owner: type | None = None
    bound: Obj | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Super:
    """``super()`` inside a method of ``owner``."""

    obj: Obj
    owner: type


Atom = Ref | Wraps | Const | Live | Seq | Table | Obj | Func | Super
Value = frozenset[Atom]
UNKNOWN: Value = frozenset()


def one(atom: Atom) -> Value:
    """The value that is certainly ``atom``."""
    return frozenset((atom,))


def union(values: Iterable[Value]) -> Value:
    """What may be any of ``values``."""
    return frozenset().union(*values)


def inside(value: Value, depth: int = 4) -> Iterator[Atom]:
    """The atoms of ``value`` and of the lists and dicts in it."""
    for atom in value:
        yield atom
        if depth and isinstance(atom, Seq):
            for item in atom.items:
                yield from inside(item, depth - 1)
        elif depth and isinstance(atom, Table):
            for _, item in atom.items:
                yield from inside(item, depth - 1)


def matters(value: Value) -> bool:
    """Whether a function that gets ``value`` may run a component."""
    return any(isinstance(atom, Ref | Wraps | Obj | Func) for atom in inside(value))


def whole(value: Value) -> frozenset[Ref]:
    """The whole components in ``value``, not what lies under them."""
    return frozenset(atom for atom in inside(value) if isinstance(atom, Ref) and not atom.path)
