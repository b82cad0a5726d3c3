"""From what a whole plan may say to what a file may say that lies on top of another."""

from __future__ import annotations

from planner.document.language.shape import Shape

_NOTHING: Shape = {"type": "null"}


def part_of(whole: Shape, definitions: Shape) -> Shape:
    """``whole`` where nothing need be there and null may stand for each key, in every mapping.

    Lists replace what lies below, so what is in them is whole.
    """
    made = {key: rule for key, rule in whole.items() if key not in ("required", "properties", "not")}
    made["properties"] = {key: _or_nothing(shape, definitions) for key, shape in whole["properties"].items()}
    if "not" in whole:
        both = whole["not"]["required"]
        # A key that null takes away is not there.
        there = {"properties": {key: {"not": _NOTHING} for key in both}}
        made["not"] = {"allOf": [{"required": both}, there]}
    return made


def _or_nothing(shape: Shape, definitions: Shape) -> Shape:
    """The shape of a key's value, or null."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        shape = {**definitions[name], **{key: rule for key, rule in shape.items() if key != "$ref"}}
    made = part_of(shape, definitions) if "properties" in shape else dict(shape)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _or_nothing(made["additionalProperties"], definitions)
    if "type" in made:
        kinds = made["type"]
        made["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made
