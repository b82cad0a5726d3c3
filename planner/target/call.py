"""The arguments of a pipeline's call: their names, what each takes, and what it is when left out."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

LEFT_OPEN = ...
"""The default of an argument whose default is no plain value, or that ``**kwargs`` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form that a value may have: ``str``, ``int``, ``float``, ``bool``, ``dict``, ``list`` of ``items``
    (any where there are none), ``image`` (a PIL image, or several), ``object`` (a tensor or another thing
    that only a script can make), ``callable``, ``any``."""

    kind: str
    items: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """``forms``: what it takes beside None; ``default``: a plain value, or LEFT_OPEN.

    ``named``: in the signature, and not only in the documentation of ``**kwargs``.
    """

    name: str
    forms: tuple[Form, ...]
    required: bool = False
    default: Any = None
    named: bool = True

    def takes(self, *kinds: str) -> bool:
        """Whether one of its forms is of one of ``kinds``."""
        return any(form.kind in kinds for form in self.forms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``arguments`` in the order of the signature, then those that ``**kwargs`` is known to take; ``more``:
    there is a ``**kwargs``, which may take others."""

    arguments: Mapping[str, Argument]
    more: bool = False


@cache
def read_call(text: str) -> Call:
    """A call from its text in a catalogue: ``prompt: str | list[str] = None, image: image, **kwargs``.

    After ``*`` stand those that ``**kwargs`` is known to take. Raises ValueError for any other text.
    """
    try:
        args = ast.parse(f"def call({text}): ...").body[0].args  # type: ignore[attr-defined]
    except (SyntaxError, IndexError, AttributeError) as error:
        raise ValueError(f"no arguments of a call: {text!r}") from error
    lacking = [None] * (len(args.args) - len(args.defaults))
    found = {}
    for arg, default in zip(args.args, [*lacking, *args.defaults], strict=True):
        required = default is None
        found[arg.arg] = Argument(
            name=arg.arg, forms=_forms(arg.annotation), required=required, default=_default(default)
        )
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found[arg.arg] = Argument(
            name=arg.arg, forms=_forms(arg.annotation), default=_default(default), named=False
        )
    return Call(arguments=MappingProxyType(found), more=args.kwarg is not None)


def _default(node: ast.expr | None) -> Any:
    return None if node is None else ast.literal_eval(node)


def _forms(node: ast.expr | None) -> tuple[Form, ...]:
    match node:
        case None:
            return (Form(kind="any"),)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return (*_forms(left), *_forms(right))
        case ast.Name(id=kind):
            return (Form(kind=kind),)
        case ast.Subscript(value=ast.Name(id=kind), slice=inner):
            return (Form(kind=kind, items=_forms(inner)),)
    raise ValueError(f"no form of a value: {ast.unparse(node)}")
