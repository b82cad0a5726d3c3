"""The page of the language, from the schema that plans are judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from planner.docs.markdown import code, fence, joined
from planner.document.language.plan import schema

Shape = Mapping[str, Any]
_MANY = 12
"""Values of an enumeration that are listed; of more, an editor lists them."""


def page() -> str:
    """Every key: what it is, what its value may be, and an example."""
    judged = schema()
    definitions = judged["$defs"]
    keys = {**judged["properties"]}
    for key, shape in definitions["whole"]["properties"].items():
        keys[key] = {**keys.get(key, {}), **shape}
    return joined(
        "# The language",
        "A plan is one YAML file, named `*.plan.yaml`. Scalars are those of YAML 1.2: `off` and `yes` are "
        "text. Required are `version` and `pipeline`, or `extends`. `plan explain FILE --as yaml` prints a "
        "plan with what it leaves unsaid.",
        *(part for key, shape in keys.items() for part in _key(key, key, shape, definitions, 2)),
    )


def _key(name: str, path: str, shape: Shape, definitions: Shape, depth: int) -> Iterator[str]:
    """A section for the key, and one for each key below it."""
    whole = _opened(shape, definitions)
    inner = _item(whole, definitions)
    yield f"{'#' * depth} {path}"
    yield whole.get("description", "")
    if values := _values(whole, definitions):
        yield f"Value: {values}."
    for example in whole.get("examples", [])[:2]:
        yield fence(_yaml({name: example}), "yaml")
    if depth == 2:  # what is in a stage of stages is said already
        for key, below in inner.get("properties", {}).items():
            yield from _key(key, f"{path}.{key}", below, definitions, depth + 1)


def _opened(shape: Shape, definitions: Shape) -> dict[str, Any]:
    """The shape with what its reference says, its own words first."""
    if "$ref" not in shape:
        return dict(shape)
    return {**_opened(definitions[shape["$ref"].rpartition("/")[2]], definitions), **shape}


def _item(shape: Shape, definitions: Shape) -> dict[str, Any]:
    """What a list is of, or a mapping of any names; else the shape itself."""
    below = shape.get("items") or shape.get("additionalProperties")
    if "properties" in shape or not isinstance(below, Mapping):
        return dict(shape)
    return _opened(below, definitions)


def _values(shape: Shape, definitions: Shape) -> str:
    if "const" in shape:
        return code(str(shape["const"]))
    if "enum" in shape:
        names = [code(_yaml(value)) for value in shape["enum"]]
        return ", ".join(names[:_MANY]) + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
    kinds = shape.get("type", [])
    named = [{"object": "mapping", "array": "list"}.get(kind, kind) for kind in _listed(kinds)]
    limits = [
        f"{word} {shape[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"))
        if key in shape
    ]
    return " or ".join(named) + "".join(f", {limit}" for limit in limits)


def _listed(kinds: Any) -> list[str]:
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _yaml(value: Any) -> str:
    scalars = isinstance(value, dict) and not any(isinstance(inner, (dict, list)) for inner in value.values())
    flow = False if scalars else None  # None: only what has no mappings or lists in it is written in a line
    made: str = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False, width=90, allow_unicode=True)
    return made.removesuffix("\n...\n").rstrip()
