"""Sizes that are none, as they were probably meant: each hint is one that the language takes."""

from __future__ import annotations

import re
import unicodedata
from math import isfinite

_EXACT = {"GiB": 1 << 30, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6, "KiB": 1 << 10, "KB": 10**3}
_BYTES = 1 << 20
"""From here on a number without a unit is one of bytes, as other tools take it."""
_NONE = 1 << 60
"""No memory has so many bytes."""
_MEGABYTES = 256
"""From here on it is one of megabytes: no card has so many GiB."""


def size_hint(number: float, *, share: bool) -> str:
    """For a number without a unit; ``share``: whether a percentage is taken, too."""
    if not isfinite(number) or number >= _NONE:
        return "left out, it is what there is"
    if number <= 0:
        return ""
    if number >= _BYTES:
        nbytes = round(number)
        exact = (f"{nbytes // size}{unit}" for unit, size in _EXACT.items() if nbytes % size == 0)
        return f"did you mean {next(exact, f'{nbytes}B')}?"
    if share and number < 1:
        return f"did you mean {_plain(number * 100)}%?"
    return f"did you mean {_plain(number)}{'MiB' if number >= _MEGABYTES else 'GiB'}?"


def unit_hint(value: str) -> str:
    """``11gb``, ``11G`` and ``11,5GiB`` as they were probably meant."""
    plain = unicodedata.normalize("NFKC", value)
    said = re.fullmatch(r"\s*(\d+)(?:[.,](\d+))?\s*([kmg]?)(i?)(b?)\s*", plain, re.ASCII | re.IGNORECASE)
    if said is None:
        return ""
    whole, part, power, binary, byte = said.groups()
    number = f"{whole}.{part}" if part else whole
    return f"did you mean {number}{power.upper()}{'i' if power and (binary or not byte) else ''}B?"


def _plain(number: float) -> str:
    """Without an exponent, and with no more digits than tell it."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
