"""Reading calls: a component's is a use, the source's own functions are read where they are called."""

from __future__ import annotations

import ast
import builtins
import functools
import re
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from planner.generate.events import Ran
from planner.generate.expressions import Expressions, Frame
from planner.generate.values import (
    UNKNOWN,
    Atom,
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
    Wraps,
    inside,
    matters,
    one,
    union,
    whole,
)

NO_COMPUTING = re.compile(
    r"(to|cpu|cuda|half|float|double|bfloat16|type|eval|train|requires_grad_|apply|compile|get|keys|items|values"
    r"|parameters|named_parameters|buffers|named_buffers|modules|named_modules|children|named_children|state_dict"
    r"|zero_grad|cache_context|attn_processors|get_memory_footprint|size|dim|numel|pop|update|copy|startswith"
    r"|(enable|disable|set|load|save|fuse|unfuse|register|remove|is|has|add|delete|reset|clear|restore|prepare_cache"
    r"|resize_token|_set|_update)_\w+|_\w*cache\w*|\w+_attention_mask|prepare_\w+_coords|reset|__\w+__)"
)
"""Methods of a component that do not run its weights."""

LEADS_ON = re.compile(r"get_(encoder|decoder|input_embeddings|output_embeddings|submodule)")
"""Methods that return a part of the component."""

DEPTH = 40


class Calls(Expressions):
    """Calls. ``leaks`` are the places where a whole component went into code that is not followed."""

    modules: frozenset[str]
    leaks: list[str]
    stack: list[int]

    @abstractmethod
    def execute(self, frame: Frame, body: list[ast.stmt]) -> None:
        """Read statements."""

    def call(self, frame: Frame, node: ast.Call) -> Value:
        """Read a call: its arguments, then what it runs."""
        if isinstance(node.func, ast.Name) and node.func.id == "super" and frame.this and frame.owner:
            return one(Super(obj=frame.this, owner=frame.owner))
        func = self.evaluate(frame, node.func)
        positional, named = self._arguments(frame, node)
        special = self._special(frame, node, positional, named)
        if special is not None:
            return special
        text = ast.unparse(node.func)
        able = [a for a in func if isinstance(a, Ref | Wraps | Func | Obj | Live)]
        if not able:
            return self._opaque(text, positional, named)
        able.sort(key=lambda a: (a.component, a.path) if isinstance(a, Ref) else ("", ()))
        return self.branches([partial(self.run, text, atom, positional, named) for atom in able])

    def run(self, text: str, atom: Atom, positional: list[Value], named: dict[str, Value]) -> Value:
        """Call one thing."""
        match atom:
            case Ref():
                return self._use(atom, positional, named)
            case Wraps(refs=refs):
                self._ran(refs)
                return UNKNOWN
            case Func():
                return self.inline(atom, positional, named)
            case Obj():
                found = self.source.find_method(atom.cls, "__call__") or self.source.find_method(
                    atom.cls, "forward"
                )
                if found is None:
                    return self._opaque(text, positional, named)
                func = Func(node=found[1], env=None, module=found[0].__module__, owner=found[0], bound=atom)
                return self.inline(func, positional, named)
            case Live(thing=thing):
                return self._live(text, thing, positional, named)
        return UNKNOWN

    def inline(self, func: Func, positional: list[Value], named: dict[str, Value]) -> Value:
        """Read a function of the source with these arguments; a recursive call is read once."""
        if self.stack.count(id(func.node)) > 0 or len(self.stack) > DEPTH:
            return UNKNOWN
        if func.bound is not None:
            positional = [one(func.bound), *positional]
        outer = Frame(env=func.env or Env(names={}), module=func.module, owner=func.owner)
        env = Env(names=self._bound(outer, func.node.args, positional, named), parent=func.env)
        this = func.bound or _enclosing(env)
        frame = Frame(env=env, module=func.module, owner=func.owner, this=this)
        self.stack.append(id(func.node))
        try:
            if isinstance(func.node, ast.Lambda):
                return self.evaluate(frame, func.node.body)
            self.execute(frame, func.node.body)
        finally:
            self.stack.pop()
        return _returned(frame.returns)

    def instance(self, cls: type, positional: list[Value], named: dict[str, Value]) -> Obj:
        """A new object of a followed class: its constructor is read for what it keeps."""
        obj = Obj(cls=cls)
        found = self.source.find_method(cls, "__init__")
        if found is not None:
            owner, node = found
            func = Func(node=node, env=None, module=owner.__module__, owner=owner, bound=obj)
            self.collect(lambda: self.inline(func, positional, named))  # building runs no weights
        return obj

    def _arguments(self, frame: Frame, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        positional: list[Value] = []
        for arg in node.args:
            value = self.evaluate(frame, arg)
            spread = self.items(value) if isinstance(arg, ast.Starred) else None
            positional.extend([value] if spread is None else [item for item, _ in spread])
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.evaluate(frame, keyword.value)
            if keyword.arg is not None:
                named[keyword.arg] = value
                continue
            for atom in value:
                if isinstance(atom, Table):
                    named.update(atom.items)
        return positional, named

    def _bound(
        self, frame: Frame, args: ast.arguments, positional: list[Value], named: dict[str, Value]
    ) -> dict[str, Value]:
        plain = [*args.posonlyargs, *args.args]
        found: dict[str, Value] = {}
        defaults = dict(
            zip([a.arg for a in plain[len(plain) - len(args.defaults) :]], args.defaults, strict=True)
        )
        defaults |= {
            a.arg: d for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None
        }
        for name, default in defaults.items():
            if isinstance(default, ast.Constant | ast.Name | ast.Attribute):
                found[name] = self.evaluate(frame, default)
        names = [a.arg for a in plain]
        found.update(zip(names, positional, strict=False))
        known = {*names, *(a.arg for a in args.kwonlyargs)}
        found.update((k, v) for k, v in named.items() if k in known)
        if args.vararg is not None:
            found[args.vararg.arg] = one(Seq(items=tuple(positional[len(names) :])))
        if args.kwarg is not None:
            rest = tuple((k, v) for k, v in named.items() if k not in known)
            found[args.kwarg.arg] = one(Table(items=rest))
        for name in known:
            found.setdefault(name, UNKNOWN)
        return found

    def _special(
        self, frame: Frame, node: ast.Call, positional: list[Value], named: dict[str, Value]
    ) -> Value | None:
        """Calls whose meaning is in their name: keeping components, changing lists, reading dicts."""
        if not isinstance(node.func, ast.Attribute):
            return None
        base = self.evaluate(frame, node.func.value) if isinstance(node.func.value, ast.Name) else UNKNOWN
        match node.func.attr:
            case "register_modules":
                for atom in base:
                    if isinstance(atom, Obj):
                        atom.attrs.update(named)
                return UNKNOWN
            case "append" if isinstance(node.func.value, ast.Name) and positional:
                grown = frozenset(
                    Seq(items=(*a.items, positional[0])) if isinstance(a, Seq) and len(a.items) < 8 else a
                    for a in base
                )
                if matters(positional[0]):
                    frame.env.names[node.func.value.id] = grown
                return UNKNOWN
            case "items":
                pairs = [
                    Seq(items=(one(Const(value=k)), v))
                    for a in base
                    if isinstance(a, Table)
                    for k, v in a.items
                ]
                return one(Seq(items=tuple(one(p) for p in pairs))) if pairs else None
            case "values":
                held = [v for a in base if isinstance(a, Table) for _, v in a.items]
                return one(Seq(items=tuple(held))) if held else None
            case "get" | "pop":
                keys = [a.value for a in (positional[0] if positional else UNKNOWN) if isinstance(a, Const)]
                held = [v for a in base if isinstance(a, Table) for k, v in a.items if k in keys]
                return union(held) if held else None
        return None

    def _use(self, ref: Ref, positional: list[Value], named: dict[str, Value]) -> Value:
        last = ref.path[-1] if ref.path else ""
        if LEADS_ON.fullmatch(last):
            return one(ref)
        if ref.path and NO_COMPUTING.fullmatch(last):
            same = last in ("to", "eval", "half", "float", "cuda", "cpu", "requires_grad_", "train")
            return one(Ref(component=ref.component, path=ref.path[:-1])) if same else UNKNOWN
        if ref.component in self.modules:
            self.events.append(Ran(component=ref.component, entry=".".join(ref.path)))
            self._ran(union([whole(v) for v in (*positional, *named.values())]))  # type: ignore[arg-type]
        else:
            self._callbacks(positional, named)
        return UNKNOWN

    def _ran(self, refs: frozenset[Ref]) -> None:
        for ref in sorted(refs, key=lambda r: (r.component, r.path)):
            if ref.component in self.modules:
                self.events.append(Ran(component=ref.component, entry=".".join(ref.path)))

    def _live(self, text: str, thing: object, positional: list[Value], named: dict[str, Value]) -> Value:
        short = _BUILTINS.get(thing) if callable(thing) else None
        if short is not None:
            return short(self, positional)
        if isinstance(thing, type):
            if self.source.followed(thing.__module__) and (
                any(matters(v) for v in (*positional, *named.values()))
                or self.source.find_method(thing, "__call__")
            ):
                return one(self.instance(thing, positional, named))
            return self._opaque(text, positional, named)
        node = self.source.function(thing)
        if node is None:
            if getattr(thing, "__module__", None) == "builtins":
                self._callbacks(positional, named)
                return UNKNOWN
            return self._opaque(text, positional, named)
        if not any(matters(v) for v in (*positional, *named.values())):
            return UNKNOWN
        module = getattr(thing, "__wrapped__", thing).__module__
        return self.inline(Func(node=node, env=None, module=module), positional, named)

    def _opaque(self, text: str, positional: list[Value], named: dict[str, Value]) -> Value:
        """Code that is not followed: it may call the functions it gets and keep the components."""
        self._callbacks(positional, named)
        given = union([*positional, *named.values()])
        refs = frozenset(r for r in whole(given) if r.component in self.modules)
        for ref in refs:
            self.leaks.append(f"{text}({ref.component})")
        kept = refs.union(*(a.refs for a in inside(given) if isinstance(a, Wraps)))
        return one(Wraps(refs=kept)) if kept else UNKNOWN

    def _callbacks(self, positional: list[Value], named: dict[str, Value]) -> None:
        for value in (*positional, *named.values()):
            for atom in sorted(
                (a for a in inside(value) if isinstance(a, Func)), key=lambda f: f.node.lineno
            ):
                self.inline(atom, [], {})


def _enclosing(env: Env) -> Obj | None:
    """The ``self`` that a nested function closes over."""
    found = env.get("self")
    return next((a for a in found or () if isinstance(a, Obj)), None)


def _returned(returns: list[Value]) -> Value:
    """What a function may return; tuples of one length are joined item by item."""
    seqs = [a for value in returns for a in value if isinstance(a, Seq)]
    others = frozenset(a for value in returns for a in value if not isinstance(a, Seq))
    if len(seqs) < 2 or len({len(s.items) for s in seqs}) > 1:
        return others | frozenset(seqs[:4])
    joined = tuple(union(s.items[place] for s in seqs) for place in range(len(seqs[0].items)))
    return others | one(Seq(items=joined))


def _getattr(reader: Calls, args: list[Value]) -> Value:
    names = [a.value for a in (args[1] if len(args) > 1 else UNKNOWN) if isinstance(a, Const)]
    found = [reader.attribute(args[0], n) for n in names if isinstance(n, str)]
    return union([*found, *args[2:]])


def _zip(reader: Calls, args: list[Value]) -> Value:
    lists = [reader.items(a) for a in args]
    length = max((len(items) for items in lists if items is not None), default=0)
    rows = [
        one(Seq(items=tuple(items[i][0] if items and i < len(items) else UNKNOWN for items in lists)))
        for i in range(length)
    ]
    return one(Seq(items=tuple(rows))) if rows else UNKNOWN


def _enumerate(reader: Calls, args: list[Value]) -> Value:
    items = reader.items(args[0]) if args else None
    if items is None:
        return UNKNOWN
    return one(Seq(items=tuple(one(Seq(items=(UNKNOWN, item))) for item, _ in items)))


def _same(reader: Calls, args: list[Value]) -> Value:
    return args[0] if args else UNKNOWN


def _filter(reader: Calls, args: list[Value]) -> Value:
    return args[1] if len(args) > 1 else UNKNOWN


_BUILTINS: dict[object, Callable[[Calls, list[Value]], Value]] = {
    builtins.getattr: _getattr,
    builtins.zip: _zip,
    builtins.enumerate: _enumerate,
    builtins.list: _same,
    builtins.tuple: _same,
    builtins.reversed: _same,
    builtins.iter: _same,
    builtins.filter: _filter,
    functools.partial: _same,
}
