"""Reading statements, and from them a pipeline class: its uses in the order of its source."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterable

from planner.generate.calls import Calls
from planner.generate.events import Event, Looped, either, maybe
from planner.generate.expressions import Frame
from planner.generate.source import Source
from planner.generate.values import UNKNOWN, Func, Live, Obj, Ref, Seq, Value, matters, one, union


class Reader(Calls):
    """Reads one pipeline class; ``modules`` are its components that have weights."""

    def __init__(self, modules: Iterable[str], source: Source) -> None:
        self.modules = frozenset(modules)
        self.source = source
        self.events: list[Event] = []
        self.leaks: list[str] = []
        self.stack: list[int] = []

    def read(self, cls: type, components: Iterable[str]) -> tuple[Event, ...]:
        """The events of ``cls.__call__``; empty where it has none that can be read."""
        names = tuple(components)
        obj = self.instance(cls, [], {name: one(Ref(component=name)) for name in names})
        obj.attrs.update({name: one(Ref(component=name)) for name in names})
        self.leaks.clear()
        found = self.source.find_method(cls, "__call__")
        if found is None:
            return ()
        owner, node = found
        func = Func(node=node, env=None, module=owner.__module__, owner=owner, bound=obj)
        return self.collect(lambda: self.inline(func, [], {}))

    def execute(self, frame: Frame, body: list[ast.stmt]) -> None:
        """Read statements; a branch that returns makes what follows it the other branch."""
        for place, node in enumerate(body):
            rest = body[place + 1 :]
            if isinstance(node, ast.If):
                self.evaluate(frame, node.test)
                if _ends(node.body) is ast.Return or _ends(node.orelse) is ast.Return:
                    yes, no = list(node.body), list(node.orelse)
                    (no if _ends(node.body) is ast.Return else yes).extend(rest)
                    self._if(frame, yes, no)
                    return
                self._if(frame, node.body, node.orelse)
            else:
                self._statement(frame, node)
                if isinstance(node, ast.Return):
                    return

    def _if(self, frame: Frame, yes: list[ast.stmt], no: list[ast.stmt]) -> None:
        if _ends(yes) is ast.Raise:
            return self.execute(frame, no)
        if _ends(no) is ast.Raise:
            return self.execute(frame, yes)
        before = dict(frame.env.names)
        first = self.collect(lambda: self.execute(frame, yes))
        after_yes, frame.env.names = frame.env.names, dict(before)
        second = self.collect(lambda: self.execute(frame, no))
        after_no = frame.env.names
        frame.env.names = {
            name: after_yes.get(name, UNKNOWN) | after_no.get(name, UNKNOWN)
            for name in [*after_yes, *(n for n in after_no if n not in after_yes)]
        }
        self.events.extend(either(first, second))
        return None

    def _statement(self, frame: Frame, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                found = self.evaluate(frame, value)
                for target in targets:
                    self.bind(frame, target, found)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.bind(frame, target, self.evaluate(frame, value))
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                joined = ast.BinOp(left=ast.Name(id=name), op=ast.Add(), right=value)
                self.bind(frame, node.target, self.evaluate(frame, joined))
            case ast.Return(value=value):
                frame.returns.append(self.evaluate(frame, value))
            case ast.For() | ast.AsyncFor():
                self._for(frame, node)
            case ast.While(test=test, body=body):
                self.evaluate(frame, test)
                inner = self.collect(lambda: self.execute(frame, body))
                self._loop(f"while {ast.unparse(test)}", inner)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    entered = self.evaluate(frame, item.context_expr)
                    if item.optional_vars is not None:
                        self.bind(frame, item.optional_vars, entered)
                self.execute(frame, body)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                self.execute(frame, [*body, *orelse])
                for handler in handlers:
                    if _ends(handler.body) is not ast.Raise:
                        self.events.extend(maybe(self.collect(lambda h=handler: self.execute(frame, h.body))))  # type: ignore[misc]
                self.execute(frame, final)
            case ast.FunctionDef(name=name):
                func = Func(node=node, env=frame.env, module=frame.module, owner=frame.owner)
                frame.env.names[name] = one(func)
            case ast.ImportFrom():
                self._import(frame, node)
            case ast.Expr(value=value):
                self.evaluate(frame, value)
            case ast.Delete() | ast.Assert() | ast.Pass() | ast.Raise() | ast.ClassDef():
                return
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.evaluate(frame, child)

    def _for(self, frame: Frame, node: ast.For | ast.AsyncFor) -> None:
        over = self.evaluate(frame, node.iter)
        items = self.items(over)
        if items is not None and any(matters(item) for item, _ in items):
            for item, certain in items:
                self.bind(frame, node.target, item)
                found = self.collect(lambda: self.execute(frame, node.body))
                self.events.extend(found if certain else maybe(found))
            return
        self.bind(frame, node.target, _element(over))
        inner = self.collect(lambda: self.execute(frame, node.body))
        self._loop(f"{ast.unparse(node.target)} in {ast.unparse(node.iter)}", inner)
        self.execute(frame, node.orelse)

    def _loop(self, over: str, body: tuple[Event, ...]) -> None:
        if body:
            self.events.append(Looped(over=over, body=body))

    def _import(self, frame: Frame, node: ast.ImportFrom) -> None:
        package = frame.module.rpartition(".")[0]
        try:
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            module = importlib.import_module(name)
        except ImportError:
            return
        for alias in node.names:
            thing = getattr(module, alias.name, None)
            if thing is not None:
                frame.env.names[alias.asname or alias.name] = one(Live(thing=thing))


def _element(over: Value) -> Value:
    return union(
        [
            *(i for a in over if isinstance(a, Seq) for i in a.items),
            frozenset(a for a in over if isinstance(a, Ref | Obj)),
        ]
    )


def _ends(body: list[ast.stmt]) -> type[ast.stmt] | None:
    """How a block certainly ends: with a return, with an exception, or not (None)."""
    if not body:
        return None
    last = body[-1]
    if isinstance(last, ast.Return | ast.Raise):
        return type(last)
    if isinstance(last, ast.If):
        ends = {_ends(last.body), _ends(last.orelse)}
        if None not in ends:
            return ast.Return if ast.Return in ends else ast.Raise
    if isinstance(last, ast.With):
        return _ends(last.body)
    return None
