"""The language's own schema, with titles, examples and messages that an editor shows."""

from __future__ import annotations

import copy
import re
from typing import Any

import yaml

from planner.document.language.plan import EXTENDS, schema
from planner.document.language.shape import Shape
from planner.document.wording import LOOKS

BOTH_ORDERS = "order and stages exclude each other: order is the short form, stages the long one"
BOTH_KINDS = "a stage has runs or stages, not both"
NEITHER_KIND = "a stage needs runs (components in call order) or stages (a group that may repeat)"
NEEDS_UNIT = "expected {}; a number alone has no unit"

_NAMES = frozenset(
    {
        *("pipeline", "class", "component", "use", "exclude", "after", "match", "skip", "runs"),
        *("extends", "name"),
    }
)
"""Keys whose values are names of a plan's own things, or patterns: their examples explain, and are not
offered where they would be wrong."""


def base_schema() -> Shape:
    """The schema of ``planner.document.language``, the same rules in the form that editors read best.

    A whole plan and a part each say by themselves which keys there are: what the root would say beside them
    an editor would offer twice.
    """
    made = copy.deepcopy(schema())
    definitions = made["$defs"]
    for kind in ("whole", "part"):
        definition = definitions[kind]
        definition["properties"] = {"extends": copy.deepcopy(EXTENDS), **definition["properties"]}
        definition["additionalProperties"] = False
        both = definition.pop("not")
        definition["allOf"] = [{"if": both, "then": _refused("stages", BOTH_ORDERS)}]
    # So that a new file is offered it; one that has it is a part.
    order = ["version", "extends", *(key for key in definitions["whole"]["properties"])]
    for kind in ("whole", "part"):
        keys = definitions[kind]["properties"]
        definitions[kind]["properties"] = {key: keys[key] for key in dict.fromkeys(order)}
    _stage(definitions["stage"])
    for name, definition in definitions.items():
        _annotate(definition, "" if name in ("whole", "part") else name, "")
    definitions["whole"]["title"] = "plan"
    definitions["part"]["title"] = "plan on top of another"
    root = {key: made[key] for key in ("$schema", "$id", "title", "description", "examples", "type")}
    _example(root, "", "")
    choice = {key: made[key] for key in ("if", "then", "else")}
    return {**root, **choice, "$defs": definitions}


def _stage(stage: Shape) -> None:
    """What ``oneOf`` says of runs and stages, as two rules with a message each."""
    runs, stages = stage.pop("oneOf")
    stage["allOf"] = [
        {"if": {"allOf": [runs, stages]}, "then": _refused("stages", BOTH_KINDS)},
        {"if": {"not": {"anyOf": [runs, stages]}}, "then": {**runs, "errorMessage": NEITHER_KIND}},
    ]


def _refused(key: str, message: str) -> Shape:
    return {"properties": {key: False}, "errorMessage": message}


def _annotate(shape: Shape, path: str, key: str) -> None:
    """Titles, messages and examples of ``shape`` and everything in it. ``path`` is what it is called, and
    ``key`` the key that it is the value of, "" for what stands in a list or is a definition."""
    if message := _message(shape):
        shape["errorMessage"] = message
    if path and "description" in shape:
        shape["title"] = path
    _values(shape)
    _example(shape, path.rpartition(".")[2], key)
    for name, inner in shape.get("properties", {}).items():
        if isinstance(inner, dict):
            _annotate(inner, f"{path}.{name}" if path else name, name)
    for part in ("items", "additionalProperties"):
        if isinstance(shape.get(part), dict):
            _annotate(shape[part], path, "")
    if isinstance(names := shape.get("propertyNames"), dict):
        names |= {"doNotSuggest": True, "errorMessage": f"expected a name: {names['title']}"}


def _message(shape: Shape) -> str:
    """What was expected, where the server's own words would be a pattern, or the title alone."""
    title, kinds = shape.get("title", ""), shape.get("type", ())
    if title in LOOKS:
        look = LOOKS[title]
        return NEEDS_UNIT.format(look) if title in ("size", "bytes") else f"expected {look}"
    if "array" in kinds and "string" not in kinds:
        return "expected a list"
    if "object" not in kinds or "string" in kinds or "required" in shape:
        return ""
    if shape.get("additionalProperties") is False:
        return f"expected a mapping of {', '.join(shape['properties'])}"
    return "expected a mapping"


def _values(shape: Shape) -> None:
    """What each value of an ``enum`` means, where the description has it as ``value: meaning.``"""
    values = shape.get("enum", ())
    said = [re.search(rf"\b{value}: (.+?\.)(?: [a-z]+:|$)", shape.get("description", "")) for value in values]
    if any(said):
        shape["enumDescriptions"] = [meaning[1] if meaning else "" for meaning in said]


def _example(shape: Shape, name: str, key: str) -> None:
    """An example to read: of names and mappings in the text alone, since what stands in ``examples`` is
    offered as it is, a mapping as ``[object Object]``."""
    examples = shape.get("examples", [])
    plain = all(not isinstance(example, (dict, list)) for example in examples)
    if not examples or (plain and name not in _NAMES):
        return
    del shape["examples"]
    shape["markdownDescription"] = markdown(shape["description"], {key: examples[0]} if key else examples[0])


def markdown(description: str, example: Any) -> str:
    """A description and its example, as a hover shows them."""
    shown = yaml.safe_dump(example, sort_keys=False, allow_unicode=True, width=80).removesuffix("...\n")
    return re.sub(r"([\\_*<>`])", r"\\\1", description) + f"\n\nExample:\n\n```yaml\n{shown}```\n"
