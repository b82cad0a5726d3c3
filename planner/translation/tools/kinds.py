"""Values of other tools' settings, as these tools take them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from planner.plan.units import MOST, UNITS
from planner.translation.tools.model import WRONG, Kind

LONGEST = 40
"""Characters of a value that a message shows."""
COUNTS = 10**6
"""No tool has more blocks, profiles or devices."""

_DEVICE = re.compile(r"(cuda|xpu|mps|npu)(?::(\d{1,3}))?\Z", re.ASCII)
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmg]i?b)\s*\Z", re.ASCII | re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3}


def shown(value: Any, longest: int = LONGEST) -> str:
    """A value in a message or a comment: one line of ASCII, not too long, no comment inside."""
    try:
        text = json.dumps(value, default=lambda v: f"<{type(v).__name__}>")
    except (ValueError, TypeError, RecursionError):
        text = f'"<{type(value).__name__}>"'
    text = text.replace("#", "\\u0023")  # a comment in a comment could be an instruction to the checker
    return text if len(text) <= longest else text[: longest - 3] + "..."


def device(value: Any) -> Any:
    """``cuda`` as ``cuda:0`` (diffusers takes the first card for a bare name), 1 as ``cuda:1``."""
    if is_count(value) and 0 <= value < 1000:
        return f"cuda:{value}"
    if not isinstance(value, str) and isinstance(getattr(value, "type", None), str):
        value = str(value)  # a torch.device
    found = _DEVICE.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        return WRONG
    return found[1] if found[1] == "mps" else f"{found[1]}:{int(found[2] or 0)}"


def size(value: Any) -> Any:
    """Bytes of ``3GB``, or of a number, as accelerate reads them (``GB`` is 1000 to the third)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < MOST else WRONG
    found = _SIZE.match(value) if isinstance(value, str) and len(value) < LONGEST else None
    if found is None:
        return WRONG
    base = 1024 if "i" in found[2].lower() else 1000
    nbytes = int(float(found[1]) * base ** _POWERS[found[2][0].lower()])
    if found[2].endswith("b") and base == 1000:
        nbytes //= 8  # accelerate takes a small b for bits
    return nbytes if nbytes < MOST else WRONG


def written(nbytes: int) -> str:
    """Bytes as a plan writes them, in the largest unit that is exact."""
    for unit, count in sorted(UNITS.items(), key=lambda item: -item[1]):
        if nbytes % count == 0:
            return f"{nbytes // count}{unit}"
    return f"{nbytes}B"


def choice(*known: str) -> Kind:
    """One of some words."""
    return Kind(" or ".join(known), lambda v: v if isinstance(v, str) and v in known else WRONG)


def between(least: int, most: int = COUNTS) -> Kind:
    """A whole number."""
    words = f"a whole number from {least}" + (f" to {most}" if most != COUNTS else "")
    return Kind(words, lambda v: v if is_count(v) and least <= v <= most else WRONG)


def is_count(value: Any) -> bool:
    """A whole number that is not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number that is not true or false."""
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    return whole and abs(value) < MOST and math.isfinite(value)


def names(value: Any) -> Any:
    """A name or several, as a tuple."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    return WRONG


BOOL = Kind("true or false", lambda v: v if isinstance(v, bool) else WRONG)
DEVICE = Kind("a device such as cuda, cuda:1, xpu:0, mps or 1", device)
CARD = Kind("the number of a card", lambda v: v if is_count(v) and 0 <= v < 1000 else WRONG)
SIZE = Kind("a size such as 3GB or a number of bytes", size)
NAMES = Kind("a name or a list of names", names)
PATH = Kind("a path", lambda v: v if isinstance(v, str) and v else WRONG)
MAPPING = Kind("a mapping", lambda v: v if isinstance(v, Mapping) else WRONG)
ANY = Kind("a value", lambda v: v)
