"""Whether a module uses its children only by calling them, read from the source of its class.

What is only called may come just in time, each child by itself: a hook sees it begin. A weight that is read
past its module (an attention pool joins the biases of its layers) has to be there before.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any


def only_called(module: Any) -> bool:
    """True where every method of its class says so; False where one reads, hands on or looks for a child,
    and where there is no source (a tree made of the names in a file)."""
    bases = [base for base in type(module).__mro__ if base is not object]
    torchs = next((base for base in bases if base.__module__ == "torch.nn.modules.module"), None)
    if torchs is None or "forward" in vars(module):
        return False
    methods = (method for base in bases if base is not torchs for method in _methods(base))
    children, inherited = frozenset(module._modules), frozenset(dir(torchs))
    return all(method is not None and _calls(method, children, inherited) for method in methods)


def _methods(cls: type) -> Iterator[Callable[..., Any] | None]:
    """With None for what is called and has no source. ``__init__`` is over."""
    for name, value in vars(cls).items():
        if name == "__init__":
            continue
        if isinstance(value, property):
            yield from (part for part in (value.fget, value.fset) if part is not None)
        elif isinstance(value, cached_property):
            yield value.func
        elif inspect.isfunction(value):
            yield value
        elif callable(value) and not isinstance(value, (type, staticmethod, classmethod)):
            yield None


@lru_cache(maxsize=1024)
def _calls(method: Callable[..., Any], children: frozenset[str], inherited: frozenset[str]) -> bool:
    """``inherited``: names by which a module reaches all of its children (``parameters``, ``_modules``)."""
    try:
        made = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]
    except (OSError, TypeError, SyntaxError):
        return False
    if not isinstance(made, (ast.FunctionDef, ast.AsyncFunctionDef)) or not made.args.args:
        return False
    own, nodes = made.args.args[0].arg, list(ast.walk(made))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    looked = {id(node.value): node for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == own:
            look = looked.get(id(node))
            if look is None or look.attr in inherited:
                return False  # whoever gets it may read anything
            if look.attr in children and id(look) not in called:
                return False
    return True
