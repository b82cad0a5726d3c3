"""What the schema is put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.source.limits import TEXT

Shape = dict[str, Any]
"""A JSON Schema, or a part of one."""


def said(description: str, examples: Sequence[Any], **rules: Any) -> Shape:
    """A shape that editors can explain."""
    return {
        "description": description,
        "examples": list(examples),
        **rules,
    }


def ref(name: str) -> Shape:
    """The definition of this name."""
    return {"$ref": f"#/$defs/{name}"}


def text(most: int = TEXT.most) -> Shape:
    """Text that is not empty."""
    return {"type": "string", "minLength": 1, "maxLength": most}


def whole(least: int, most: int) -> Shape:
    """A whole number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def listed(items: Shape, most: int, least: int = 0) -> Shape:
    """A list."""
    return {"type": "array", **({"minItems": least} if least else {}), "maxItems": most, "items": items}


def mapping(properties: Shape, required: Sequence[str] = ()) -> Shape:
    """A mapping of these keys and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        "properties": properties,
    }
