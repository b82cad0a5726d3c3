"""Statements in the order in which Python would run them, calls handed on one by one.

What depends on the run (a condition that the snippet's literals do not decide, a loop over what is not
written out) is not walked: what stands in it is told.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from planner.source.text import Span
from planner.translation.script.condition import truth
from planner.translation.script.source import Script
from planner.translation.script.uncalled import Function, only_entry
from planner.translation.script.values import (
    Act,
    Component,
    Known,
    Made,
    Many,
    Member,
    Pairs,
    Pipeline,
    Unknown,
    Value,
)
from planner.translation.tools.kinds import shown

MOST_TURNS = 64
"""Of all the loops that are written out."""
DEEPEST = 4
"""Functions of the snippet that call each other."""

MODULES = ("torch", "diffusers", "transformers", "accelerate", "cache_dit", "nunchaku", "mmgp", "offload")
"""Known for what they are where a snippet leaves its imports out."""

_PIPELINE = re.compile(r"(self|(\w*_)?(pipe|pipeline)\d*)\Z")
_CLASS = re.compile(r"[A-Z]\w*\Z")


@dataclass(kw_only=True)
class Walker:
    """``call`` gets each call and says what it makes; ``adopt`` the component whose name a model is bound
    to; ``assign`` what is set on an object; ``left`` what is not walked, with its reason; ``assumed`` what
    is taken to be true. ``matters``: whether a part says something for a plan; ``silent``: whether nothing
    has so far. ``named``: variables that the snippet gives to the pipeline, by its argument."""

    script: Script
    components: Collection[str]
    named: Mapping[str, str]
    call: Callable[[Act], Value]
    adopt: Callable[[str, Made], None]
    assign: Callable[[Member | Component, Value, Span], None]
    left: Callable[[ast.AST, Span, str], None]
    assumed: Callable[[Span, str], None]
    matters: Callable[[ast.AST], bool]
    silent: Callable[[], bool]
    variables: dict[str, Value] = field(default_factory=dict)
    modules: set[str] = field(default_factory=lambda: set(MODULES))
    functions: dict[str, Function] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    depth: int = 0
    turns: int = 0

    def walk(self) -> None:
        """All of the script; functions that nothing calls are told at the end. Where all that matters is in
        them, the one through which it is reached is taken to be called."""
        self.block(self.script.body)
        if self.silent() and (entry := only_entry(self.functions, self.matters)) is not None:
            function = self.functions[entry]
            self.assumed(self.script.span(function), f"{entry} is taken to be called")
            self._inlined(function, Act.bare(entry, self.script.span(function)))
        for name in self.functions:
            self._never_called(name)

    def _class(self, body: Collection[ast.stmt]) -> None:
        """Methods are functions of ``self``; what makes the object is walked, and what it calls."""
        for statement in body:
            if isinstance(statement, Function):
                self._define(f"self.{statement.name}", statement)
                continue
            self.statement(statement)
            for name in _stored(statement):
                if name in self.variables:
                    self.variables[f"self.{name}"] = self.variables[name]
        own = {statement.name for statement in body if isinstance(statement, Function)}
        if "__init__" in own and (made := self.functions.get("self.__init__")) is not None:
            self._inlined(made, Act.bare("self.__init__", self.script.span(made)))

    def _define(self, name: str, function: Function) -> None:
        self._never_called(name)  # the one that had the name
        self.functions[name] = function
        self.called.discard(name)

    def _never_called(self, name: str) -> None:
        if name in self.functions and name not in self.called:
            function = self.functions[name]
            self.left(function, self.script.span(function), f"nothing here calls {name}")

    def block(self, statements: Collection[ast.stmt]) -> Value | None:
        """The value of a ``return`` among them, or None."""
        for statement in statements:
            if isinstance(statement, ast.Return):
                return self.value(statement.value) if statement.value else Known(None)
            if (made := self.statement(statement)) is not None:
                return made
        return None

    def statement(self, node: ast.stmt) -> Value | None:
        """One statement; the value of a ``return`` in it."""
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                self.modules |= {(name.asname or name.name).partition(".")[0] for name in names}
            case ast.Expr(value=value):
                self.value(value)
            case ast.Assign(targets=targets, value=value):
                made = self.value(value)
                for target in targets:
                    self._bind(target, made, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, self.value(value), value)
            case ast.AugAssign(target=ast.Attribute() as target, value=value):
                self._set(target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name)):
                self.value(node.value)
                self.variables[name] = Unknown(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self._define(name, node)
            case ast.ClassDef(body=body):
                self._class(body)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    made = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self._bind(item.optional_vars, made, item.context_expr)
                return self.block(body)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                returned = self.block([*body, *orelse, *final])
                for handler in handlers:
                    self._told(handler.body, "it runs only after an exception")
                return returned
            case ast.If():
                return self._if(node)
            case ast.For():
                return self._for(node)
            case ast.Pass() | ast.Global() | ast.Nonlocal() | ast.AnnAssign():
                pass
            case _:
                self._told([node], f'"{ast.unparse(node).split(maxsplit=1)[0].rstrip(":")}" is not followed')
        return None

    def _if(self, node: ast.If) -> Value | None:
        known = self._truth(node.test)
        if known is None:
            said = shown(ast.unparse(node.test))[1:-1]
            why = f"whether {said} is known only when it runs: keep what you mean"
            self._told([*node.body, *node.orelse], why)
            return None
        return self.block(node.body if known else node.orelse)

    def _truth(self, test: ast.expr) -> bool | None:
        def assumed(node: ast.expr, said: str) -> None:
            self.assumed(self.script.span(node), said)

        return truth(test, self._literal, assumed)

    def _literal(self, node: ast.expr) -> Known | None:
        """A literal, or the variable that holds one."""
        made = self.value(node) if isinstance(node, (ast.Constant, ast.Name)) else None
        return made if isinstance(made, Known) and not made.named else None

    def _for(self, node: ast.For) -> Value | None:
        over = self.value(node.iter)
        if not isinstance(over, Many) or self.turns + len(over.items) > MOST_TURNS or node.orelse:
            said = shown(ast.unparse(node.iter))[1:-1]
            self._told(node.body, f"what {said} holds is known only when it runs")
            return None
        for item in over.items:
            self.turns += 1
            self._bind(node.target, item, node.iter)
            if (made := self.block(node.body)) is not None:
                return made
        return None

    def _told(self, statements: Collection[ast.stmt], why: str) -> None:
        for statement in statements:
            self.left(statement, self.script.span(statement), why)
            for name in _stored(statement):
                self.variables.pop(name, None)

    def _bind(self, target: ast.expr, made: Value, value: ast.expr) -> None:
        match target, made:
            case ast.Name(id=name), Made(loaded=True) if name in self.named or name in self.components:
                component = self.named.get(name, name)
                self.adopt(component, made)
                self.variables[name] = Component(component)
            case ast.Name(id=name), Unknown():  # a name that says what it is, is what it says
                self.variables.pop(name, None)
                known = self._name(name)
                self.variables[name] = made if isinstance(known, Unknown) else known
            case ast.Name(id=name), _:
                self.variables[name] = made
            case ast.Tuple(elts=names) | ast.List(elts=names), Many(items=items) if len(names) == len(items):
                for inner, item in zip(names, items, strict=True):
                    self._bind(inner, item, value)
            case ast.Tuple(elts=names) | ast.List(elts=names), _:
                for inner in names:
                    self._bind(inner, Unknown(ast.unparse(value)), value)
            case ast.Attribute(), _:
                self._set(target, made)

    def _set(self, target: ast.Attribute, made: Value) -> None:
        there = self._member(self.value(target.value), target.attr)
        if isinstance(target.value, ast.Name) and not isinstance(there, Component):
            self.variables[f"{target.value.id}.{target.attr}"] = made
            if target.value.id == "self":  # the object's own, and not the pipeline's
                return
        if isinstance(there, (Member, Component)) and _about(there):
            self.assign(there, made, self.script.span(target))

    def value(self, node: ast.expr) -> Value:
        """What an expression stands for; the calls in it are made on the way."""
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return Known(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return Known(-value)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return Many(tuple(self.value(item) for item in items))
            case ast.Dict(keys=keys, values=values) if all(keys):
                made = zip((k for k in keys if k), values, strict=True)
                return Pairs(tuple((self.value(key), self.value(value)) for key, value in made))
            case ast.Name(id=name):
                return self._name(name)
            case ast.Attribute(value=of, attr=name):
                return self._attribute(of, name, ast.unparse(node))
            case ast.Subscript(value=ast.Attribute(value=of, attr="components"), slice=key):
                if isinstance(self.value(of), Pipeline) and isinstance(there := self.value(key), Known):
                    return self._member(Pipeline(), str(there.value))
            case ast.IfExp(test=test, body=body, orelse=other) if (known := self._truth(test)) is not None:
                return self.value(body if known else other)
            case ast.NamedExpr(target=target, value=value):
                made_value = self.value(value)
                self._bind(target, made_value, value)
                return made_value
            case ast.Call():
                return self._call(node)
            case ast.Await(value=inner) | ast.Starred(value=inner) | ast.Subscript(value=inner):
                self.value(inner)
            case ast.BoolOp() | ast.BinOp() | ast.Compare() | ast.JoinedStr() | ast.FormattedValue():
                for inner in _expressions(node):
                    self.value(inner)
            case ast.Lambda() | ast.ListComp() | ast.GeneratorExp() | ast.DictComp() | ast.IfExp():
                if any(isinstance(inner, ast.Call) for inner in ast.walk(node)):
                    self.left(node, self.script.span(node), "what it does is known only when it runs")
        return Unknown(ast.unparse(node))

    def _name(self, name: str) -> Value:
        if name in self.variables:
            return self.variables[name]
        if name in self.named or name in self.components:
            return Component(self.named.get(name, name))
        return Pipeline() if _PIPELINE.match(name) else Unknown(name)

    def _attribute(self, of: ast.expr, name: str, text: str) -> Value:
        if isinstance(of, ast.Name) and f"{of.id}.{name}" in self.variables:
            made = self.variables[f"{of.id}.{name}"]
            if not isinstance(made, Unknown):
                return made
        root = of
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in self.variables:
            own = root.id in self.modules or _CLASS.match(root.id) or root.id.endswith("_type")
            if own and not _PIPELINE.match(root.id):
                return Known(name, named=True)
        there = self._member(self.value(of), name)
        return Unknown(text) if isinstance(there, Member) and not _about(there) else there

    def _member(self, of: Value, name: str) -> Value:
        match of:
            case Pipeline() if name in self.components:
                return Component(name)
            case Pipeline() if _PIPELINE.match(name) and name != "self":
                return Pipeline()
            case Component(name=component, inside=inside):
                return Component(component, f"{inside}.{name}" if inside else name)
        return Member(of, name)

    def _call(self, node: ast.Call) -> Value:
        receiver: Value | None = None
        match node.func:
            case ast.Name(id="device", ctx=_) | ast.Attribute(attr="device") if not node.keywords:
                parts = [self.value(arg) for arg in node.args]
                if parts and all(isinstance(part, Known) for part in parts):
                    said = ":".join(str(part.value) for part in parts if isinstance(part, Known))
                    return Known(said, named=True)
                return Unknown(ast.unparse(node))
            case ast.Name(id="getattr") if len(node.args) == 2:
                of, key = self.value(node.args[0]), self.value(node.args[1])
                if isinstance(key, Known):
                    return self._member(of, str(key.value))
            case ast.Name(id=name):
                there = self.variables.get(name)
                if isinstance(there, (Pipeline, Component)) or (there is None and _PIPELINE.match(name)):
                    receiver = there or Pipeline()
            case ast.Attribute(value=of):
                receiver = self._receiver(of)
            case _:
                self.value(node.func)
        named = [keyword for keyword in node.keywords if keyword.arg]
        args = tuple(self.value(arg) for arg in node.args)
        keywords = {keyword.arg or "": self.value(keyword.value) for keyword in named}
        spread = [self.value(keyword.value) for keyword in node.keywords if not keyword.arg]
        written = [pairs for pairs in map(_written, spread) if pairs is not None]
        for pairs in written:
            keywords |= pairs
        if _is_dict(node, args):
            return Pairs(tuple((Known(key), value) for key, value in keywords.items()))
        last = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        act = Act(
            name=node.func.id if isinstance(node.func, ast.Name) and receiver is None else last,
            path=ast.unparse(node.func),
            receiver=receiver,
            args=args,
            keywords=keywords,
            span=self.script.span(node),
            places={
                **{str(at): self.script.span(arg) for at, arg in enumerate(node.args)},
                **{keyword.arg or "": self.script.span(keyword) for keyword in named},
            },
            spread=len(written) < len(spread) or any(isinstance(arg, ast.Starred) for arg in node.args),
        )
        called = act.name if receiver is None else act.path
        if called in self.functions and self.depth < DEEPEST:
            return self._inlined(self.functions[called], act)
        return self.call(act)

    def _receiver(self, of: ast.expr) -> Value | None:
        """What a method is called on; None for a module (``torch.compile``) or a class."""
        root = of
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in self.variables:
            if root.id in self.modules or (_CLASS.match(root.id) and not _PIPELINE.match(root.id)):
                return None
            if root is of and isinstance(self._name(root.id), Unknown):
                return Unknown(root.id)
        return self.value(of)

    def _inlined(self, function: Function, act: Act) -> Value:
        """A function of the snippet, where it is called: its body with its arguments."""
        self.called |= {name for name, known in self.functions.items() if known is function}
        outer, self.depth = self.variables, self.depth + 1
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        names = names[1:] if names[:1] == ["self"] else names
        given = dict(zip(names, act.args, strict=False)) | dict(act.keywords)
        defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
        for name in (*names, *(argument.arg for argument in function.args.kwonlyargs)):
            if name not in given:
                given[name] = self.value(defaults[name]) if name in defaults else self._name(name)
        self.variables = {**outer, **given}
        returned = self.block(function.body)
        own = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
        kept = {name: value for name, value in self.variables.items() if "." in name or name in own}
        self.variables, self.depth = {**outer, **kept}, self.depth - 1
        return returned if returned is not None else Known(None)


def _written(value: Value) -> dict[str, Value] | None:
    """What ``**value`` stands for, where it is a dictionary that is written out."""
    if not isinstance(value, Pairs):
        return None
    pairs = {key.value: inner for key, inner in value.items if isinstance(key, Known)}
    return pairs if len(pairs) == len(value.items) and all(isinstance(key, str) for key in pairs) else None


def _is_dict(node: ast.Call, args: Collection[Value]) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "dict" and not args


def _about(there: Member | Component) -> bool:
    """Whether it belongs to the pipeline."""
    return isinstance(there, Component) or isinstance(there.of, (Pipeline, Component))


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that are set in a part that is not walked: their values are not known after it."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    return (inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.expr))
