"""A plan as bytes, for another process: as it is, with its places in the user's file."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from planner.plan.model import Plan


def packed(plan: Plan) -> bytes:
    """For ``unpacked``, in a process of this version."""
    made = io.BytesIO()
    pickler = pickle.Pickler(made)
    # pickle has no name for the type of a frozen mapping
    pickler.dispatch_table = {**copyreg.dispatch_table, MappingProxyType: lambda m: (_frozen, (dict(m),))}
    pickler.dump(plan)
    return made.getvalue()


def unpacked(data: bytes) -> Plan:
    """What was given to ``packed``. The bytes are of our own batch: pickle runs what they say."""
    plan: Plan = pickle.loads(data)
    return plan


def _frozen(values: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(values)
