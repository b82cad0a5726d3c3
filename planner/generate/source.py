"""The source of the installed diffusers as syntax trees, found by module, class and method."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
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


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of ``module``, which must have a source file."""
    return ast.parse(inspect.getsource(importlib.import_module(module)))


@cache
def methods(cls: type) -> dict[str, Def]:
    """The functions in the body of ``cls``, by name; setters and overloads give way to the first."""
    found: dict[str, Def] = {}
    if not cls.__module__.startswith("diffusers."):
        return found
    for node in ast.walk(tree(cls.__module__)):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.setdefault(item.name, item)
    return found


def find_method(cls: type, name: str, after: type | None = None) -> tuple[type, Def] | None:
    """Where ``cls`` gets method ``name`` from; with ``after``, what ``super()`` in it would find."""
    mro = cls.__mro__
    start = mro.index(after) + 1 if after in mro else 0
    for owner in mro[start:]:
        node = methods(owner).get(name)
        if node is not None:
            return (owner, node) if followed(owner.__module__) else None
    return None


def followed(module: str) -> bool:
    """Whether functions of ``module`` are read."""
    return module.startswith(SOURCE) and module not in NOT_FOLLOWED


def is_property(node: Def) -> bool:
    """Whether reading the attribute runs the function."""
    return any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list)


def is_static(node: Def) -> bool:
    """Whether the function gets no instance."""
    return any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)


def function(thing: Any) -> Def | None:
    """The definition of a module-level function of the source, None when it is not followed."""
    plain = inspect.unwrap(thing) if callable(thing) else thing
    if not isinstance(plain, FunctionType) or not followed(plain.__module__):
        return None
    for node in tree(plain.__module__).body:
        if isinstance(node, ast.FunctionDef) and node.name == plain.__name__:
            return node
    return None


def global_name(module: str, name: str) -> Any:
    """What ``name`` means at the top of ``module``; None when nothing."""
    return vars(importlib.import_module(module)).get(name)
