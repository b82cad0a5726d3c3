"""What a pipeline class makes, read from its own source before it runs: images, a video, sound."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

Kind = Literal["image", "video", "audio"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    "video": (".mp4", ".gif", ".webm"),
    "audio": (".wav",),
}
"""Of the files that hold them, the default one first."""
FIELDS: dict[str, Kind] = {
    "images": "image",
    "image": "image",
    "frames": "video",
    "audios": "audio",
    "audio": "audio",
}
"""Of diffusers' output classes, and what they hold. A video may come with its sound."""


@cache
def kinds_of(cls: type) -> tuple[Kind, ...]:
    """What the output that ``cls.__call__`` returns has fields for, the main one first; empty where its
    source does not say (then nothing is known before the run)."""
    for owner in cls.__mro__:
        call = owner.__dict__.get("__call__")
        if call is None or owner is object:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(call)))
        except (OSError, TypeError, SyntaxError):
            return ()
        return tuple(_kinds(tree, getattr(inspect.unwrap(call), "__globals__", {})))
    return ()


def _kinds(tree: ast.AST, names: Mapping[str, Any]) -> Iterator[Kind]:
    """By the fields of each object of an output class that is made in a ``return``."""
    made = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    calls = [value for value in made if isinstance(value, ast.Call) and _named(value).endswith("Output")]
    given = {field for call in calls for field in _fields(call, names.get(_named(call)))}
    yield from dict.fromkeys(kind for field, kind in FIELDS.items() if field in given)


def _fields(call: ast.Call, output: Any) -> Iterator[str]:
    """Named, or by their place in the output class."""
    yield from (keyword.arg for keyword in call.keywords if keyword.arg is not None)
    if dataclasses.is_dataclass(output):
        yield from (field.name for field, _ in zip(dataclasses.fields(output), call.args, strict=False))


def _named(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))
