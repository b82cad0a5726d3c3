"""Quantization rules: the types and options of each backend, and no other's."""

from __future__ import annotations

from planner.document.language.shape import Shape, ref
from planner.editor.base import markdown
from planner.quantization.backends import BACKENDS, SELECTORS, Backend, Option

OF_A_FILE = ("match", "classes", "skip")
"""Selectors that a GGUF file has settled."""
_ALWAYS = ("component", "backend")


def rule_definitions(rule: Shape) -> Shape:
    """Definitions from the language's ``rule``: ``rule`` itself, and ``rule-NAME`` for each backend."""
    keys = rule["properties"]
    selectors = {key: keys[key] for key in SELECTORS if key not in _ALWAYS}
    made = {f"rule-{b.name}": _of(b, keys) for b in BACKENDS.values()}
    made |= {f"rule-{key}": shape for key, shape in selectors.items()}
    backend = keys["backend"] | {
        "enum": [*BACKENDS],
        "enumDescriptions": [f"{b.type_key}: {', '.join(b.types)}" for b in BACKENDS.values()],
    }
    chosen = [
        {
            "if": {"type": "object", "required": ["backend"], "properties": {"backend": {"const": name}}},
            "then": {"$ref": f"#/$defs/rule-{name}"},
        }
        for name in BACKENDS
    ]
    others = {key: ref(f"rule-{key}") for key in selectors}
    undecided = {"if": {"not": {"required": ["backend"]}}, "then": {"properties": others}}
    kept = {key: value for key, value in rule.items() if key not in ("properties", "additionalProperties")}
    first = {"component": keys["component"], "backend": backend}
    return {"rule": {**kept, "properties": first, "allOf": [*chosen, undecided]}, **made}


def _of(backend: Backend, keys: Shape) -> Shape:
    """What a rule of one backend may say."""
    selectors = [key for key in SELECTORS if key not in _ALWAYS]
    if backend.when == "never":
        selectors = [key for key in selectors if key not in OF_A_FILE]
    own = {backend.type_key: _kind(backend)} | {
        key: _option(backend, key, option, keys[key]) for key, option in backend.options.items()
    }
    # Offered already, or only of some formats.
    silent = [*_ALWAYS, *(key for key, option in backend.options.items() if option.types)]
    made: Shape = {
        "properties": {
            **{key: ref(f"rule-{key}") for key in selectors},
            **own,
            **{key: {"doNotSuggest": True, "title": f"rule.{key}"} for key in silent},
        },
        "additionalProperties": False,
        "errorMessage": f"{backend.name} has no such option: it knows {', '.join([*own, *selectors])}",
    }
    needed = [_needed(backend)] if backend.when == "load" else []
    formats = [_of_types(backend, key, own[key]) for key, option in backend.options.items() if option.types]
    return made | ({"allOf": [*needed, *formats]} if needed or formats else {})


def _kind(backend: Backend) -> Shape:
    offer = {"doNotSuggest": True} if backend.when == "never" else {}
    return {
        "title": f"{backend.name} {backend.type_key}",
        "description": f"The format that {backend.name} keeps weights in.",
        "markdownDescription": markdown(
            f"The format that {backend.name} keeps weights in.",
            {"component": "transformer", "backend": backend.name, backend.type_key: backend.types[0]},
        ),
        **offer,
        "enum": [*backend.types],
        "errorMessage": f"{backend.type_key} of {backend.name}: {', '.join(backend.types)}",
    }


def _option(backend: Backend, key: str, option: Option, said: Shape) -> Shape:
    """An option with the values that it takes; the language says what it means."""
    values = option.values
    if isinstance(values, tuple):
        return {**said, "enum": [*values], "errorMessage": f"{key} of {backend.name}: {', '.join(values)}"}
    kinds: dict[type, Shape] = {
        bool: {"type": "boolean"},
        int: {"type": "integer", "minimum": 1},
        float: {"type": "number"},
    }
    return said | kinds[values]


def _needed(backend: Backend) -> Shape:
    key = backend.type_key
    return {"required": [key], "errorMessage": f'{backend.name} needs "{key}": {", ".join(backend.types)}'}


def _of_types(backend: Backend, key: str, shape: Shape) -> Shape:
    """An option that only some formats know."""
    types = backend.options[key].types
    return {
        "if": {"properties": {backend.type_key: {"enum": [*types]}}},
        "then": {"properties": {key: shape}},
        "else": {
            "properties": {key: False},
            "errorMessage": f"{key} is an option of {', '.join(types)} alone",
        },
    }
