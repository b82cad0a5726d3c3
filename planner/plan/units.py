"""Sizes, shares and loops as a plan writes them."""

from __future__ import annotations

import re

from planner.plan.model import Amount, Loop
from planner.source.text import Span

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
"""Bytes. Those with an i are powers of 1024, the others of 1000."""

MOST = 1 << 60
"""Bytes: no memory is as large, and what is larger would not stay exact in JSON."""

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?(%|[KMG]i?B|B)\Z", re.ASCII)


def amount(text: str, span: Span) -> Amount | None:
    """``11GiB`` as bytes, ``80%`` as a share; None for a share outside (0, 100], no bytes at all, or MOST.

    The schema has seen to the form.
    """
    found = _AMOUNT.match(text)
    if found is None:
        return None
    number, unit = float(found[1]), found[2]
    if unit == "%":
        return Amount(share=number / 100, text=text, span=span) if 0 < number <= 100 else None
    if number * UNITS[unit] >= MOST:
        return None
    nbytes = int(number * UNITS[unit])
    return Amount(bytes=nbytes, text=text, span=span) if nbytes else None


def loop(value: float | str) -> Loop | None:
    """``20``, ``steps`` or ``12.5%`` of the steps; None for a share outside (0, 100]."""
    if not isinstance(value, str):
        return Loop(count=int(value), text=str(int(value)))  # 20.0 is a whole number in JSON Schema
    if value == "steps":
        return Loop(share=1.0, text=value)
    share = float(value.removesuffix("%")) / 100
    return Loop(share=share, text=value) if 0 < share <= 1 else None
