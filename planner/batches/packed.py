"""A plan, or what has one, as bytes for another process: as it is, with its places in the user's file."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def packed(value: object) -> bytes:
    """For ``unpacked``, in a process of this version."""
    made = io.BytesIO()
    pickler = pickle.Pickler(made)
    # pickle has no name for the type of a frozen mapping
    pickler.dispatch_table = {**copyreg.dispatch_table, MappingProxyType: lambda m: (_frozen, (dict(m),))}
    pickler.dump(value)
    return made.getvalue()


def unpacked(data: bytes) -> Any:
    """What was given to ``packed``. The bytes are of our own making: pickle runs what they say."""
    return pickle.loads(data)


def _frozen(values: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(values)
