"""Calls of true size for benchmarks: those that were measured first, and those of the models that ship."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planner.tracing.predictions import PROMPT, facts

MEASURED = Path(__file__).parents[1] / "tracing" / "measured.json"
MODELS = "models"
"""Instead of a file of configs: the calls of ``planner/models/facts.yaml``."""


def cases(names: str = "", configs: str = "") -> list[dict[str, Any]]:
    """Of a file in the form of ``measured.json`` (that one by default; of the models that ship where it is
    ``models``), those whose names begin with one of ``names``, which have commas between them."""
    found = _of_models() if configs == MODELS else _of_file(Path(configs) if configs else MEASURED)
    wanted = tuple(names.split(",")) if names else ("",)
    return [case for case in found if case["name"].startswith(wanted)]


def _of_file(path: Path) -> Iterator[dict[str, Any]]:
    said = json.loads(path.read_text())
    for case in said["pipelines"]:
        yield {**case, "prompt": said["prompt"]}


def _of_models() -> Iterator[dict[str, Any]]:
    for model, said in facts().items():
        parts = {key: {"dtype": said["dtype"], **part} for key, part in said["components"].items()}
        for arguments in said["calls"]:
            call = dict(arguments)
            tiling = call.pop("tiling", [])
            yield {
                "name": _named(model, call, bool(tiling)),
                "class": said["class"],
                "parts": parts,
                "more": said.get("arguments", {}),
                "call": call,
                "tiling": bool(tiling),
                "image": bool(said.get("image")),
                "prompt": PROMPT,
            }


def _named(model: str, call: dict[str, Any], tiled: bool) -> str:
    others = dict(call)
    size = f"{others.pop('height')}x{others.pop('width')}"
    frames = [f"{others.pop('num_frames')}f"] if "num_frames" in others else []
    return " ".join([model, size, *frames, *(f"{k}={v}" for k, v in others.items()), *["tiled"] * tiled])
