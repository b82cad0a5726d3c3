"""The source of pipeline classes as syntax trees, found by module, class and method."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from types import FunctionType
from typing import Any

Def = ast.FunctionDef | ast.AsyncFunctionDef

SOURCE = (
    "diffusers.pipelines.",
    "diffusers.experimental.",
    "diffusers.loaders.",
    "diffusers.utils.peft_utils",
)
"""Modules whose functions are followed; ``models`` and ``schedulers`` are what they run."""

NOT_FOLLOWED = ("diffusers.pipelines.pipeline_utils", "diffusers.pipelines.pipeline_loading_utils")
"""The base class moves and loads components; it does not run them."""

LIBRARIES = frozenset(
    ("accelerate", "diffusers", "huggingface_hub", "numpy", "peft", "PIL", "torch", "transformers")
)
"""Packages that hold no pipeline of a user's own."""


@dataclass(frozen=True)
class Source:
    """What may be read: diffusers' own pipelines, and packages that a user's class is made of."""

    packages: frozenset[str] = frozenset()

    def followed(self, module: str | None) -> bool:
        """Whether functions of ``module`` are read."""
        if module is None:
            return False
        return self._own(module) or (module.startswith(SOURCE) and module not in NOT_FOLLOWED)

    def methods(self, cls: type) -> dict[str, Def]:
        """The functions in the body of ``cls``, by name; none of a library's class."""
        readable = cls.__module__.startswith("diffusers.") or self._own(cls.__module__)
        return _methods(cls) if readable else {}

    def find_method(self, cls: type, name: str, after: type | None = None) -> tuple[type, Def] | None:
        """Where ``cls`` gets method ``name`` from; with ``after``, what ``super()`` in it would find."""
        mro = cls.__mro__
        start = mro.index(after) + 1 if after in mro else 0
        for owner in mro[start:]:
            node = self.methods(owner).get(name)
            if node is not None:
                return (owner, node) if self.followed(owner.__module__) else None
        return None

    def function(self, thing: Any) -> Def | None:
        """The definition of a module-level function of the source, None when it is not followed."""
        plain = inspect.unwrap(thing) if callable(thing) else thing
        if not isinstance(plain, FunctionType) or not self.followed(plain.__module__):
            return None
        module = tree(plain.__module__)
        for node in module.body if module is not None else ():
            if isinstance(node, ast.FunctionDef) and node.name == plain.__name__:
                return node
        return None

    def _own(self, module: str) -> bool:
        return module.partition(".")[0] in self.packages


def source_of(cls: type) -> Source:
    """What is read for ``cls``: beside diffusers, the packages of it and of its bases."""
    roots = {base.__module__.partition(".")[0] for base in cls.__mro__}
    return Source(frozenset(roots - LIBRARIES - sys.stdlib_module_names | ({"__main__"} & roots)))


def is_property(node: Def) -> bool:
    """Whether reading the attribute runs the function."""
    return any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list)


def is_static(node: Def) -> bool:
    """Whether the function gets no instance."""
    return any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)


def global_name(module: str, name: str) -> Any:
    """What ``name`` means at the top of ``module``; None when nothing."""
    found = _module(module)
    return None if found is None else vars(found).get(name)


@cache
def tree(module: str) -> ast.Module | None:
    """The syntax tree of ``module``, None where it has no source file (a notebook)."""
    try:
        return ast.parse(inspect.getsource(_module(module)))
    except (OSError, TypeError, SyntaxError):
        return None


def _module(name: str) -> Any:
    """Imported, but for one that was made without a name that leads to it."""
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except ImportError:
        return None


@cache
def _methods(cls: type) -> dict[str, Def]:
    """The first of each name: setters and overloads are left out."""
    found: dict[str, Def] = {}
    body = _body(cls)
    for node in body if body is not None else _one_by_one(cls):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.setdefault(node.name, node)
    return found


def _body(cls: type) -> list[ast.stmt] | None:
    """The statements of ``cls`` in its module's file. Of several by one name the last is the one bound."""
    scope: ast.AST | None = tree(cls.__module__)
    for part in cls.__qualname__.split("."):
        if scope is None or part == "<locals>":
            continue
        scope = _inside(scope).get(part)
    return scope.body if isinstance(scope, ast.ClassDef) else None


@cache
def _inside(scope: ast.AST) -> dict[str, ast.AST]:
    """Classes and functions anywhere in ``scope``, of several by one name the last in the order of
    ``ast.walk``. Expressions, most of a tree, have none."""
    found: dict[str, ast.AST] = {}
    todo: deque[ast.AST] = deque([scope])
    while todo:
        node = todo.popleft()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node is not scope:
            found[node.name] = node
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            inner = getattr(node, field, None)
            if isinstance(inner, list):  # a lambda's body is an expression
                todo.extend(inner)
    return found


def _one_by_one(cls: type) -> Iterator[ast.stmt]:
    """Each function from where Python has its lines: a class of a notebook, or made by another function."""
    for value in vars(cls).values():
        function = _plain(value)
        if function is None:
            continue
        try:
            yield from ast.parse(textwrap.dedent(inspect.getsource(function))).body
        except (OSError, TypeError, SyntaxError):
            continue


def _plain(value: Any) -> FunctionType | None:
    match value:
        case property():
            value = value.fget
        case cached_property():
            value = value.func
        case staticmethod() | classmethod():
            value = value.__func__
    plain = inspect.unwrap(value) if callable(value) else None
    return plain if isinstance(plain, FunctionType) else None
