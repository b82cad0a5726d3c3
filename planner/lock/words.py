"""Values of a lock as people read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from planner.lock.compare import Difference
from planner.schedule.fit import gib

BYTES = frozenset({
    "bytes", "fixed", "stays", "crosses", "moves", "moved", "each_step", "peak", "weights", "after",
    "vram", "ram", "pinned", "leave_free", "total", "free", "context", "held", "left",
    "reserved", "needed",
})  # fmt: skip
"""Keys whose numbers are bytes."""
KEYS = BYTES | {"on_demand"}
"""Keys that are written with blanks; names of components are as they are."""
_UNSAID = frozenset({
    "source", "variant", "revision", "commit", "sequence", "dtype", "tiling", "slicing", "quantization",
    "vram", "ram", "pinned", "leave_free", "prefetch", "predecessor", "stays", "crosses", "weights",
})  # fmt: skip
"""Keys whose null is that nothing is said; of sizes it is that they are not known."""


def what(difference: Difference) -> str:
    """``text_encoder bytes``: what differs, beneath its section."""
    *names, key = difference.path or (difference.section,)
    return " ".join((*names, key.replace("_", " ") if key in KEYS else key))


def both(difference: Difference) -> tuple[str, str]:
    """The two values. Different ones are never the same words."""
    key = difference.path[-1] if difference.path else difference.section
    if difference.section == "steps":
        a, b = _steps(difference.a), _steps(difference.b)
    else:
        a, b = words(key, difference.a), words(key, difference.b)
    if a == b:
        return _exact(difference.a), _exact(difference.b)
    return a, b


def words(key: str, value: Any) -> str:
    """One value."""
    match value:
        case None:
            return "not known" if key in BYTES - _UNSAID or key == "walk" else "none"
        case bool():
            return "yes" if value else "no"
        case int() if key in BYTES:
            return gib(value)
        case [] | Mapping() if not value:
            return "none"
        case list() if key == "walk":
            return " -> ".join(map(_stage, value))
        case list() if key == "blocks":
            return f"{len(value)} of {gib(sum(value))}"
        case list():
            return ", ".join(words("", one) for one in value)
        case Mapping():
            return ", ".join(
                f"{name.replace('_', ' ')} {words(name, one)}"
                for name, one in value.items()
                if one is not None and one is not False and one not in ([], {})
            )
    return str(value)


def _stage(stage: Mapping[str, Any]) -> str:
    inner = stage.get("stages")
    optional = stage.get("optional", [])
    some = [] if optional is True else optional
    runs = (run + "?" * (run in some) for run in stage.get("runs", ()))
    said = f"{stage['id']}({' -> '.join(map(_stage, inner)) if inner else ', '.join(runs)})"
    return said + (f" x {stage['loop']}" if "loop" in stage else "") + "?" * (optional is True)


def _steps(steps: list[Mapping[str, Any]]) -> str:
    return "; ".join(map(step, steps)) or "none"


def step(said: Mapping[str, Any]) -> str:
    """``load transformer in denoise, 8.88 GiB``."""
    entry = f".{said['entry']}" if "entry" in said else ""
    where = f" in {said['stage']}" if "stage" in said else ""
    times = f" x {said['times']}" if "times" in said else ""
    size = f", {gib(said['bytes'])}" if said["bytes"] is not None else ""
    after = f", {gib(said['after'])} then" if said["after"] is not None else ""
    return f"{said['do']} {said['component']}{entry}{where}{times}{size}{after}"


def _exact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
