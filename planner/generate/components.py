"""A pipeline class's components: names and classes from its constructor, modules from their bases."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass

from planner.generate.source import Source, global_name

NOT_MODULES = re.compile(
    r".*(Tokenizer\w*|Processor\w*|Scheduler\w*|FeatureExtractor|Guidance|Mel|OnnxRuntimeModel|Backend)"
)
NO_CLASSES = frozenset(("Optional", "Union", "None", "list", "List", "tuple", "Tuple", "dict", "Dict", "Any"))
WEIGHTLESS_NAMES = ("tokenizer", "scheduler", "processor", "extractor", "guider", "mel", "env")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One component of a constructor, as its source has it."""

    name: str
    classes: tuple[str, ...]
    module: bool
    optional: bool


def components(cls: type, source: Source) -> tuple[Argument, ...]:
    """The components of ``cls`` in the order of its constructor.

    A component is what ``DiffusionPipeline.components`` (diffusers 0.42.1, pipeline_utils.py:1838)
    counts as one: an argument without a default, or one named in ``_optional_components``.
    """
    optional = tuple(getattr(cls, "_optional_components", None) or ())
    found: list[Argument] = []
    owner = next((c for c in cls.__mro__ if "__init__" in source.methods(c)), None)
    if owner is None:
        return ()
    annotations = _annotations(source.methods(owner)["__init__"].args)
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:  # type: ignore[misc]
        required = parameter.default is inspect.Parameter.empty
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not named or not (required or name in optional):
            continue
        classes = annotations.get(name, ())
        if required and classes and all(c in ("bool", "int", "float", "str") for c in classes):
            continue
        found.append(
            Argument(
                name=name,
                classes=tuple(c for c in classes if c not in NO_CLASSES),
                module=_is_module(owner.__module__, name, classes),
                optional=name in optional or not required,
            )
        )
    return tuple(found)


def resolve(module: str, name: str) -> type | None:
    """The class that ``name`` means in ``module``, also where it is imported only for type checkers."""
    thing = global_name(module, name)
    if isinstance(thing, type):
        return thing
    for package in ("diffusers", "transformers"):
        try:
            thing = getattr(importlib.import_module(package), name, None)
        except (ImportError, RuntimeError):
            continue
        if isinstance(thing, type):
            return thing
    return None


def _annotations(args: ast.arguments) -> dict[str, tuple[str, ...]]:
    """Class names in the annotations of the constructor, as written, in order."""
    return {
        a.arg: tuple(dict.fromkeys(_names(a.annotation)))
        for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)
        if a.annotation is not None
    }


def _names(node: ast.expr) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return [name]
        case ast.Constant(value=str() as text):
            return _names(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, right=right):
            return _names(left) + _names(right)
        case ast.Subscript(value=base, slice=inner):
            return _names(base) + _names(inner)
        case ast.Tuple(elts=elts):
            return [name for element in elts for name in _names(element)]
    return []


def _is_module(module: str, name: str, classes: tuple[str, ...]) -> bool:
    """Whether the component has weights: by its classes' bases, else by what it is called."""
    import torch

    kinds = [resolve(module, c) for c in classes if c not in NO_CLASSES]
    if any(k is not None and issubclass(k, torch.nn.Module) for k in kinds):
        return True
    if any(NOT_MODULES.fullmatch(c) for c in classes):
        return False
    if any(k is not None for k in kinds):
        return False
    return not any(word in name for word in WEIGHTLESS_NAMES)
