"""What was meant by a key in another place, and by a value of another shape: text that the language takes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from planner.diagnostics.suggest import did_you_mean
from planner.document.language.plan import DEFS, KEYS

POLICIES = frozenset(DEFS["policy"]["enum"])
_SOURCES = (
    *("source", "model", "model_id", "model_name", "repo_id", "path", "checkpoint"),
    "pretrained_model_name_or_path",
)
_CALL = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "seed", "image", "num_frames")
_WORDS = {
    "": {
        **dict.fromkeys(_SOURCES, "pipeline: {class: CLASS, source: WHERE}"),
        **{key: f"run: {{{key}: ...}}" for key in _CALL},
        "steps": "run: {num_inference_steps: ...}",
        **dict.fromkeys(("offload", "offload_mode", "cpu_offload"), "components: {NAME: offload}"),
    },
    "budget": dict.fromkeys(("gpu", "gpu_memory", "vram_limit", "max_vram", "device"), "budget: {vram: ...}"),
    "stages": {"name": "id: NAME"},
    "loras": dict.fromkeys(("path", "name", "source", "repo_id"), "lora_id: WHERE"),
}
"""What people call things, by the key under which they write it; "" at the top."""


def meant(path: Sequence[str | int], key: str, known: Collection[str]) -> str:
    """The hint for ``key``, which does not stand under ``path`` beside ``known``: what it is called, or where
    it belongs."""
    names = [part for part in path if isinstance(part, str)]
    parent = names[0] if names else ""
    if parent == "components" and key in POLICIES:
        return f"did you mean policy: {key}?"
    if (word := _WORDS.get(parent, {}).get(key)) is not None:
        return f"did you mean {word}?"
    place = _places().get(key, "")
    slip = bool(get_close_matches(key, known, cutoff=0.8))
    if not place or slip or (parent and place.startswith(f"{parent}:")):
        return did_you_mean(key, known)
    return f"did you mean {place}?"


@cache
def _places() -> Mapping[str, str]:
    """Keys of the language that stand in one place, as they are written there."""
    found: dict[str, list[str]] = {}
    for key, written in _written():
        found.setdefault(key, []).append(written)
    return {key: places[0] for key, places in found.items() if len(places) == 1}


def _written() -> Iterator[tuple[str, str]]:
    for key, shape in KEYS.items():
        yield key, f"{key}: ..."
        for inner in shape.get("properties", {}):
            yield inner, f"{key}: {{{inner}: ...}}"
    for name, key, form in (
        ("component", "components", "components: {{NAME: {{{}: ...}}}}"),
        ("stage", "stages", "stages: [{{{}: ...}}]"),
        ("rule", "quantization", "quantization: [{{{}: ...}}]"),
        ("lora", "loras", "loras: [{{{}: ...}}]"),
    ):
        assert key in KEYS
        for inner in DEFS[name].get("properties", {}):
            yield inner, form.format(inner)


def reshaped(label: str, value: Any, schema: Mapping[str, Any]) -> str:
    """For a value of another type than ``schema`` wants: the same in the right one, else an example of it."""
    examples = schema.get("examples") or [None]
    name = f"{label}: " if re.fullmatch(r"\w+", label) else ""
    kinds = schema.get("type", ())
    if "array" in ([kinds] if isinstance(kinds, str) else kinds) and examples[0]:
        if isinstance(value, str) and isinstance(examples[0][0], str):
            return f"did you mean {name}{flow([value])}?"
        if isinstance(value, dict) and isinstance(examples[0][0], dict) and {*value} & {*examples[0][0]}:
            return "a list of mappings: put it in [ ], or a dash before it"
    return f"such as {name}{flow(examples[0])}" if examples[0] is not None else ""


def flow(value: Any) -> str:
    """YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_./]([\w./:-]*[\w%])?|\d+(\.\d+)?([KMG]i?B|%)", value)
        return value if plain else "'" + value.replace("'", "''") + "'"
    return json.dumps(value)
