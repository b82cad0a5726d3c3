"""Reading expressions: which components a value may be, and which of them run on the way."""

from __future__ import annotations

import ast
import builtins
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from planner.generate.events import Event, either, maybe
from planner.generate.source import Source, global_name, is_property, is_static
from planner.generate.values import (
    UNKNOWN,
    Const,
    Env,
    Func,
    Live,
    Obj,
    Ref,
    Seq,
    Super,
    Table,
    Value,
    one,
    union,
)

PLAIN = frozenset(("config", "dtype", "device", "tokenizer", "generation_config"))
"""Attributes of a component that hold no weights."""

WRAPPERS = frozenset(("module", "_orig_mod", "nets"))
"""Attributes under which compiled, distributed and multi-part components keep the module itself."""


@dataclass(slots=True, kw_only=True)
class Frame:
    """One function that is being read."""

    env: Env
    module: str
    owner: type | None = None
    this: Obj | None = None
    returns: list[Value] = field(default_factory=list)


class Expressions(ABC):
    """Expressions; what a call does is for the class below."""

    events: list[Event]
    source: Source

    @abstractmethod
    def call(self, frame: Frame, node: ast.Call) -> Value:
        """Read a call: its arguments, then what it runs."""

    @abstractmethod
    def inline(self, func: Func, positional: list[Value], named: dict[str, Value]) -> Value:
        """Read a function of the source with these arguments."""

    def collect(self, work: Callable[[], object]) -> tuple[Event, ...]:
        """The events of ``work``, kept out of the record."""
        before, self.events = self.events, []
        try:
            work()
            return tuple(self.events)
        finally:
            self.events = before

    def evaluate(self, frame: Frame, node: ast.expr | None) -> Value:
        """The value of ``node``; events go to the record in the order of evaluation."""
        if node is None:
            return UNKNOWN
        match node:
            case ast.Constant(value=value):
                return one(Const(value=value)) if value is None or isinstance(value, str | int) else UNKNOWN
            case ast.Name(id=name):
                return self._name(frame, name)
            case ast.Attribute(value=base, attr=attr):
                return self.attribute(self.evaluate(frame, base), attr)
            case ast.Call():
                return self.call(frame, node)
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                return one(Seq(items=self._elements(frame, elts)))
            case ast.Dict(keys=keys, values=values):
                return self._table(frame, keys, values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.evaluate(frame, test)
                return self.branches(
                    [partial(self.evaluate, frame, body), partial(self.evaluate, frame, orelse)]
                )
            case ast.BoolOp(values=values):
                first = self.evaluate(frame, values[0])
                rest: list[Value] = []
                later = self.collect(lambda: rest.extend(self.evaluate(frame, v) for v in values[1:]))
                self.events.extend(maybe(later))
                return union([first, *rest])
            case ast.BinOp(left=left, right=right):
                return _joined(self.evaluate(frame, left), self.evaluate(frame, right))
            case ast.Subscript(value=base, slice=index):
                return _item(
                    self.evaluate(frame, base), self.evaluate(frame, index), isinstance(index, ast.Slice)
                )
            case ast.Lambda():
                return one(Func(node=node, env=frame.env, module=frame.module, owner=frame.owner))
            case (
                ast.ListComp(generators=over)
                | ast.SetComp(generators=over)
                | ast.GeneratorExp(generators=over)
            ):
                return self._comprehension(frame, [node.elt], over)
            case ast.DictComp(generators=over):
                self._comprehension(frame, [node.key, node.value], over)
                return UNKNOWN
            case ast.NamedExpr(target=target, value=value):
                found = self.evaluate(frame, value)
                frame.env.names[target.id] = found
                return found
            case ast.Starred(value=value):
                return self.evaluate(frame, value)
            case ast.Yield(value=inner) | ast.YieldFrom(value=inner):
                frame.returns.append(one(Seq(items=(self.evaluate(frame, inner),))))
                return UNKNOWN
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.evaluate(frame, child)
        return UNKNOWN

    def branches(self, works: list[Callable[[], Value]]) -> Value:
        """One of ``works`` happens: the events that all have are certain."""
        values: list[Value] = []
        merged: tuple[Event, ...] | None = None
        for work in works:
            found = self.collect(lambda work=work: values.append(work()))  # type: ignore[misc]
            merged = found if merged is None else either(merged, found)
        self.events.extend(merged or ())
        return union(values)

    def attribute(self, base: Value, attr: str) -> Value:
        """``base.attr``; a property of a followed class is read as the call that it is."""
        return union(self._attribute(atom, attr) for atom in base)

    def items(self, value: Value) -> list[tuple[Value, bool]] | None:
        """What a loop over ``value`` sees, each with whether all alternatives have it; None if unknown."""
        lists = [atom.items for atom in value if isinstance(atom, Seq)]
        if not lists:
            return None
        longest = max(lists, key=lambda items: (len(items), repr(items)))
        return [(item, all(item in other for other in lists)) for item in longest]

    def bind(self, frame: Frame, target: ast.expr, value: Value) -> None:
        """Assign ``value`` to ``target``."""
        match target:
            case ast.Name(id=name):
                frame.env.names[name] = value
            case ast.Attribute(value=base, attr=attr):
                for atom in self.evaluate(frame, base):
                    if isinstance(atom, Obj):
                        atom.attrs[attr] = atom.attrs.get(attr, UNKNOWN) | value
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                self._unpack(frame, elts, value)
            case ast.Starred(value=inner):
                self.bind(frame, inner, value)

    def _unpack(self, frame: Frame, elts: list[ast.expr], value: Value) -> None:
        fitting = [a.items for a in value if isinstance(a, Seq) and len(a.items) == len(elts)]
        for place, target in enumerate(elts):
            self.bind(frame, target, union(items[place] for items in fitting))

    def _name(self, frame: Frame, name: str) -> Value:
        found = frame.env.get(name)
        if found is not None:
            return found
        thing = global_name(frame.module, name)
        return _live(getattr(builtins, name, None) if thing is None else thing)

    def _attribute(self, atom: object, attr: str) -> Value:
        match atom:
            case Ref(component=component, path=path):
                if attr in PLAIN or "." in attr:
                    return UNKNOWN
                return one(atom) if attr in WRAPPERS else one(Ref(component=component, path=(*path, attr)))
            case Obj():
                if attr in atom.attrs:
                    return atom.attrs[attr]
                return self._of_class(atom, attr, None)
            case Super(obj=obj, owner=owner):
                return self._of_class(obj, attr, owner)
            case Live(thing=type() as cls):
                found = self.source.find_method(cls, attr)
                if found is not None:
                    return one(Func(node=found[1], env=None, module=found[0].__module__, owner=found[0]))
                return _live(getattr(cls, attr, None))
            case Live(thing=types.ModuleType() as module):
                return _live(getattr(module, attr, None))
        return UNKNOWN

    def _of_class(self, obj: Obj, attr: str, after: type | None) -> Value:
        found = self.source.find_method(obj.cls, attr, after)
        if found is None:
            return UNKNOWN
        owner, node = found
        func = Func(
            node=node, env=None, module=owner.__module__, owner=owner, bound=None if is_static(node) else obj
        )
        return self.inline(func, [], {}) if is_property(node) else one(func)

    def _elements(self, frame: Frame, elts: list[ast.expr]) -> tuple[Value, ...]:
        found: list[Value] = []
        for element in elts:
            value = self.evaluate(frame, element)
            spread = self.items(value) if isinstance(element, ast.Starred) else None
            found.extend([value] if spread is None else [item for item, _ in spread])
        return tuple(found)

    def _table(self, frame: Frame, keys: list[ast.expr | None], values: list[ast.expr]) -> Value:
        found: list[tuple[str, Value]] = []
        for key, node in zip(keys, values, strict=True):
            value = self.evaluate(frame, node)
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.append((key.value, value))
            elif key is None:
                found.extend(pair for atom in value if isinstance(atom, Table) for pair in atom.items)
            else:
                self.evaluate(frame, key)
        return one(Table(items=tuple(found)))

    def _comprehension(
        self, frame: Frame, results: list[ast.expr], over: Iterable[ast.comprehension]
    ) -> Value:
        inner = Frame(
            env=Env(names={}, parent=frame.env), module=frame.module, owner=frame.owner, this=frame.this
        )
        first, *rest = over
        items = self.items(self.evaluate(frame, first.iter))
        found: list[Value] = []
        for item, _ in items if items else [(UNKNOWN, True)]:
            self.bind(inner, first.target, item)
            for clause in rest:
                self.evaluate(inner, clause.iter)
                self.bind(inner, clause.target, UNKNOWN)
            for test in first.ifs:
                self.evaluate(inner, test)
            found.extend(self.evaluate(inner, result) for result in results)
        return one(Seq(items=tuple(found))) if items else union(found)


def _live(thing: object) -> Value:
    if isinstance(thing, str | int):
        return one(Const(value=thing))
    return UNKNOWN if thing is None else one(Live(thing=thing))


def _joined(left: Value, right: Value) -> Value:
    pairs = [(a, b) for a in left if isinstance(a, Seq) for b in right if isinstance(b, Seq)]
    if pairs:
        return frozenset(Seq(items=(*a.items, *b.items)) for a, b in pairs[:4])
    texts = [
        Const(value=a.value + b.value)
        for a in left
        if isinstance(a, Const) and isinstance(a.value, str)
        for b in right
        if isinstance(b, Const) and isinstance(b.value, str)
    ]
    return frozenset(texts) or frozenset(a for a in left if isinstance(a, Seq))


def _item(base: Value, index: Value, is_slice: bool) -> Value:
    found: list[Value] = []
    places = [a.value for a in index if isinstance(a, Const)]
    for atom in base:
        match atom:
            case Ref():
                found.append(one(atom))
            case Seq(items=items) if is_slice:
                found.append(one(atom))
            case Seq(items=items):
                known = [items[p] for p in places if isinstance(p, int) and -len(items) <= p < len(items)]
                found.extend(known or items)
            case Table(items=pairs):
                named = [value for key, value in pairs if key in places]
                found.extend(named or [value for _, value in pairs])
    return union(found)
