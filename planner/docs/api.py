"""The page of the Python interface, from the docstrings of what ``planner`` exports."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import planner
from planner import api
from planner.docs.markdown import fence, joined


def page() -> str:
    """Functions first, then classes, each with what it takes and what it is."""
    exported = {name: getattr(planner, name) for name in planner.__all__}
    functions = {name: made for name, made in exported.items() if inspect.isfunction(made)}
    classes = {name: made for name, made in exported.items() if inspect.isclass(made)}
    return joined(
        "# Python",
        "`import planner` loads no torch. Everything that is exported is here; nothing else is promised.",
        "## Functions",
        *(part for name, made in functions.items() for part in _entry(f"planner.{name}", made)),
        "## Classes",
        *(part for name, made in classes.items() for part in _class(name, made)),
        *_session(),
    )


def _entry(name: str, made: Any) -> Iterator[str]:
    yield f"### {name}"
    yield fence(signature(name, made), "python")
    yield inspect.getdoc(made) or ""


def _class(name: str, made: type) -> Iterator[str]:
    yield f"### planner.{name}"
    if is_dataclass(made):
        yield fence(signature(f"planner.{name}", made).removesuffix(" -> None"), "python")
    yield inspect.getdoc(made) or ""
    rows = [
        line for key, member in vars(made).items() if not key.startswith("_") for line in _member(key, member)
    ]
    yield "\n".join(rows)


def _session() -> Iterator[str]:
    """What ``apply`` returns, read and not imported: that would need torch."""
    module = next(
        node.module
        for node in ast.walk(ast.parse(inspect.getsource(api)))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "Session" for alias in node.names)
    )
    path = Path(planner.__file__).parents[1].joinpath(*str(module).split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Session")
    yield "### Session"
    yield "What `planner.apply` returns; nobody makes one otherwise."
    yield ast.get_docstring(found) or ""
    methods = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    yield "\n".join(line for node in methods for line in _read(node))


def _read(node: ast.FunctionDef) -> Iterator[str]:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    said = ast.get_docstring(node)
    if said and not any(word.endswith(".setter") for word in decorators):
        names = [argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)]
        call = (
            node.name if decorators & {"property", "cached_property"} else f"{node.name}({', '.join(names)})"
        )
        yield f"- `{call}`: {' '.join(said.split())}"


def _member(name: str, member: Any) -> Iterator[str]:
    function = getattr(member, "fget", None) or getattr(member, "func", None) or member
    said = inspect.getdoc(function) if inspect.isfunction(function) else None
    if said:
        call = f"{name}()" if function is member else name
        yield f"- `{call}`: {' '.join(said.split())}"


def signature(name: str, made: Any) -> str:
    """As it is called, an argument a line where they do not fit one."""
    found = inspect.signature(made)
    line = _plain(f"{name}{found}")
    if len(line) <= 90:
        return line
    returns = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    inner, star = [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            inner.append("*")
            star = True
        inner.append(_plain(str(parameter)))
    return f"{name}(\n" + "".join(f"    {part},\n" for part in inner) + f"){_plain(returns)}"


def _plain(signature: str) -> str:
    """Annotations are text here (PEP 563), which ``inspect`` quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
