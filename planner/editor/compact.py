"""A schema as text: one definition, key or rule a line, so that a change shows where it is."""

from __future__ import annotations

import json
from typing import Any

_SPLIT = {"$defs", "whole", "part", "of-class", "allOf"}


def compact(shape: Any, key: str = "", depth: int = 0) -> str:
    """JSON, deterministic, ending without a new line."""
    if not shape or (depth and key not in _SPLIT) or depth > 4:
        return json.dumps(shape, ensure_ascii=False, separators=(",", ":"))
    inner = " " * (depth + 1)
    if isinstance(shape, list):
        parts = [compact(part, "", depth + 1) for part in shape]
        return "[\n" + ",\n".join(inner + part for part in parts) + "\n" + inner[1:] + "]"
    if isinstance(shape, dict):
        parts = [f"{json.dumps(name)}: {compact(value, name, depth + 1)}" for name, value in shape.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + inner[1:] + "}"
    return json.dumps(shape, ensure_ascii=False)
