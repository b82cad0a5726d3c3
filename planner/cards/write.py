"""A card's values as its file: the keys in the schema's order, a row of a table a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from planner.cards.schema import NAME, schema


def card_text(values: Mapping[str, Any]) -> str:
    """YAML, the same for the same values. Rates with three digits: they were measured."""
    lines = [f"# yaml-language-server: $schema={NAME}", *_mapping(values, schema(), "")]
    return "\n".join(lines) + "\n"


def _mapping(values: Mapping[str, Any], rule: Mapping[str, Any], indent: str) -> Iterator[str]:
    order = [key for key in rule.get("properties", {}) if key in values]
    for key in [*order, *(key for key in values if key not in order)]:
        value, inner = values[key], rule.get("properties", {}).get(key, {})
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _mapping(value, inner, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
            yield f"{indent}{key}:"
            for row in value:
                yield f"{indent}  - [{', '.join([*map(_size, row[:-1]), _rate(row[-1])])}]"
        elif isinstance(value, (list, tuple)):
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_scalar(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    return _rate(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _size(value: float) -> str:
    return str(int(value))


def _rate(value: float) -> str:
    return f"{value:.2e}" if value >= 1e4 or 0 < value < 1e-2 else f"{value:.3g}"
