"""Functions of a snippet that nothing in it calls: one of them may be what its user calls from elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def only_entry(functions: Mapping[str, Function], matters: Callable[[ast.AST], bool]) -> str | None:
    """The one function through which all is reached that matters; None where there are several, or none."""
    calls = {name: _called(function) & functions.keys() - {name} for name, function in functions.items()}
    inner = set().union(*calls.values())
    entries = [
        name
        for name in functions
        if name not in inner and any(matters(functions[one]) for one in _reached(name, calls))
    ]
    return entries[0] if len(entries) == 1 else None


def _called(function: Function) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}


def _reached(name: str, calls: Mapping[str, set[str]]) -> set[str]:
    seen, more = set(), {name}
    while more:
        seen |= more
        more = set().union(*(calls[one] for one in more)) - seen
    return seen
