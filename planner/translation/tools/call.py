"""A tool's call as a script has it, read and never run: its literal arguments by name."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Tool

_CALL = re.compile(r"^[ \t]*(?:\w+[ \t]*=[ \t]*)?[A-Za-z_][\w.]*[ \t]*\(", re.MULTILINE)
_PIPELINES = ("pipe", "pipeline", "self")
"""What comes before a method of the pipeline itself; any other last name is a component's."""


def is_call(text: str) -> bool:
    """Whether ``text`` is Python rather than YAML: a line of it begins with a call."""
    return _CALL.search(text) is not None


def from_calls(tool: Tool, text: str) -> dict[str, Any]:
    """The arguments of the tool's call in ``text``, or those of each component's call by component.

    ``device = torch.device("cuda")`` above the call is followed; other statements are passed over. Raises
    SyntaxError, ValueError for what is not literal or not there, and whatever deep nesting does to ``ast``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in the text are not ours to judge
        statements = ast.parse(text.strip()).body
    whole: list[dict[str, Any]] = []
    parts: dict[str, dict[str, Any]] = {}
    for call, known in _calls(tool, statements):
        component = _component(call) if tool.parts else ""
        if component:
            args = call.args[1:] if _name(call) in tool.parts else call.args
            parts[component] = _arguments(tool, call, args, known)
        else:
            whole.append(_arguments(tool, call, call.args[tool.before :], known))
    if len(whole) + bool(parts) != 1:
        named = " or ".join(tool.calls)
        found = f"{len(whole)} calls for the whole pipeline, {len(parts)} for components"
        raise ValueError(f"expected one call of {named}, found {found}")
    return parts or whole[0]


def _calls(tool: Tool, statements: list[ast.stmt]) -> Iterator[tuple[ast.Call, Mapping[str, Any]]]:
    """Calls by the tool's names, or the only one there is, each with the variables set above it."""
    known: dict[str, Any] = {}
    for statement in statements:
        value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
        if isinstance(value, ast.Call) and (_name(value) in tool.calls or len(statements) == 1):
            yield value, dict(known)
        if isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name):
            try:
                known[name.id] = _literal(statement.value, known)
            except ValueError:
                known.pop(name.id, None)


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _component(call: ast.Call) -> str:
    """``vae`` of ``pipe.vae.enable_group_offload()`` and of ``apply_group_offloading(pipe.vae)``."""
    match call:
        case ast.Call(func=ast.Name(), args=[ast.Attribute(attr=name), *_]):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=name))) if not name.startswith(_PIPELINES):
            return name
    return ""


def _arguments(
    tool: Tool, call: ast.Call, positional: list[ast.expr], known: Mapping[str, Any]
) -> dict[str, Any]:
    names = [setting.name for setting in tool.settings]
    if len(positional) > len(names):
        raise ValueError(f"{len(positional)} arguments without a name, at most {len(names)} are known")
    given = dict(tool.implied.get(_name(call), {}))
    given |= {name: _literal(value, known) for name, value in zip(names, positional, strict=False)}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("what ** stands for is not known here")
        given[keyword.arg] = _literal(keyword.value, known)
    return given


def _literal(node: ast.expr | None, known: Mapping[str, Any]) -> Any:
    """A literal; ``torch.device("cuda", 1)`` as ``cuda:1``, ``torch.bfloat16`` as its last name."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_literal(item, known) for item in items]
        case ast.Dict(keys=keys, values=values) if all(keys):
            pairs = zip(keys, values, strict=True)
            return {_key(_literal(key, known)): _literal(value, known) for key, value in pairs}
        case ast.Attribute(attr=name):
            return name
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.Call(func=ast.Name(id="device") | ast.Attribute(attr="device"), args=[*args], keywords=[]):
            return ":".join(str(_literal(arg, known)) for arg in args)
    said = ast.unparse(node) if node is not None else ""
    raise ValueError(f"the value of {shown(said)} is not known here: write it out")


def _key(made: Any) -> Any:
    if isinstance(made, (list, dict)):
        raise ValueError("a list or a mapping is no key")
    return made
