"""The one table of codes, put together from the stages' own."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from planner.diagnostics import table
from planner.diagnostics.diagnostic import Code, InternalError
from planner.diagnostics.suggest import nearest


@cache
def all_codes() -> Mapping[str, Code]:
    """Every code by its id, sorted. Raises InternalError for two of one id or name."""
    found: dict[str, Code] = {}
    names: set[str] = set()
    for module in sorted(m.name for m in pkgutil.iter_modules(table.__path__)):
        for code in import_module(f"{table.__name__}.{module}").CODES:
            if code.id in found or code.name in names:
                raise InternalError(f"two codes are called {code}")
            found[code.id] = code
            names.add(code.name)
    return MappingProxyType(dict(sorted(found.items())))


def find(text: str) -> Code | None:
    """A code by its id (``P302``, in any case) or its name."""
    codes = all_codes()
    return codes.get(text.upper()) or next((c for c in codes.values() if c.name == text.lower()), None)


def suggestion(text: str) -> str:
    """The name that ``text`` was probably meant to be; numbers have no near misses."""
    near = nearest(text.lower(), [code.name for code in all_codes().values()])
    return f'did you mean "{near}"?' if near else "codes are P101 and so on, as findings print them"
