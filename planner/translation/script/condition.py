"""Whether a condition of a snippet holds, by the snippet's own literals."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from planner.translation.script.values import Known

_AVAILABLE = re.compile(r"(torch\.\w+|\w*)\.?is_available\(\)\Z")


def truth(
    test: ast.expr, literal: Callable[[ast.expr], Known | None], assumed: Callable[[ast.expr, str], None]
) -> bool | None:
    """Whether ``test`` holds; None where only running it tells. ``literal``: what an expression holds, if
    it is written; ``assumed`` is told of what is taken to be true: a plan is for a machine with a card."""

    def of(inner: ast.expr) -> bool | None:
        return truth(inner, literal, assumed)

    if _AVAILABLE.match(said := ast.unparse(test)):
        assumed(test, f"{said} is taken to be true")
        return True
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]):
            return True
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return None if (known := of(inner)) is None else not known
        case ast.BoolOp(op=op, values=parts):
            found, decides = [of(part) for part in parts], isinstance(op, ast.Or)
            return decides if decides in found else None if None in found else not decides
        case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq() as how], comparators=[right]):
            one, other = literal(left), literal(right)
            if one is not None and other is not None:
                return bool(one.value == other.value) is isinstance(how, ast.Eq)
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as how], comparators=[ast.Constant(None)]):
            if (one := literal(left)) is not None:
                return (one.value is None) is isinstance(how, ast.Is)
        case _ if (one := literal(test)) is not None:
            return bool(one.value)
    return None
