"""``python -m planner.tracing.predictions [NAME ...]``: what ships of well-known models, from their configs.

Of each model in ``planner/models/facts.yaml`` (or of those that are named) the shapes of all weights, and a
profile of each of its calls for the kernels of each of its cards. No weights are read, no network is needed;
all of them take six minutes on two cores.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from planner.cards.shipped import shipped_card
from planner.models.model import FOLDER, INDEX
from planner.predict.stored import to_json
from planner.tracing.hollow import Part, built
from planner.tracing.trace import trace

HERE = Path(__file__).parents[1] / "models"
PROMPT = (
    "a cinematic wide shot of a red fox walking through a snowy pine forest at dawn , soft golden light "
    "between the trees , fresh snow on the branches , its breath visible in the cold air , 35mm film"
)
"""Forty words and marks; most models pad it."""


def facts() -> Mapping[str, Any]:
    """The models that ship, by name."""
    found: Mapping[str, Any] = yaml.safe_load((HERE / "facts.yaml").read_text(encoding="utf-8"))["models"]
    return found


def made(name: str, said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The model's entry in the index, and the text of its file: shapes, then a line for each call."""
    parts = {key: Part(**part) for key, part in said["components"].items()}
    calls, lines, versions = [], [], {}
    hollow = built(said["class"], parts, said.get("arguments", {}), said["dtype"])
    shapes = dict(_shapes(hollow.pipe, parts))
    for card in said["cards"]:
        kernels = shipped_card(card).kernels
        for call in said["calls"]:
            arguments, tiling = dict(call), call.get("tiling", [])
            arguments.pop("tiling", None)
            hollow = built(said["class"], parts, said.get("arguments", {}), said["dtype"])
            for component in tiling:
                getattr(hollow.pipe, component).enable_tiling()
            profile = trace(hollow.pipe, _given(arguments, said), kernels, dtypes=hollow.dtypes)
            versions = dict(profile.versions)
            lines.append(to_json(profile))
            kind = {key: getattr(kernels, key) for key in ("name", "attention", "nchw", "cublas", "sms")}
            calls.append({"arguments": arguments, "tiling": tiling, "kernels": kind})
    entry = {
        "ids": said["ids"],
        "class": said["class"],
        "dtype": said["dtype"],
        "guided": said.get("guided", ""),
        "negative": said.get("negative", False),
        "defaults": said.get("defaults", {}),
        "by_text": said.get("by_text", False),
        "image": said.get("image", ""),
        "versions": versions,
        "calls": calls,
    }
    return entry, json.dumps(shapes, separators=(",", ":")) + "\n" + "".join(lines)


def write(names: Sequence[str] = ()) -> Iterator[Path]:
    """Writes the files of ``names`` (of all models, where there are none) and the index; gives each path."""
    known, folder = facts(), HERE / FOLDER
    index = json.loads((folder / INDEX).read_text(encoding="utf-8")) if names else {}
    for name in names or known:
        index[name], text = made(name, known[name])
        path = folder / f"{name}.json.gz"
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        yield path
    rows = (f" {json.dumps(name)}: {json.dumps(index[name])}" for name in known if name in index)
    (folder / INDEX).write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    yield folder / INDEX


def _given(arguments: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    given = {"prompt": PROMPT, **arguments}
    if said.get("image"):
        from PIL import Image

        width, _, height = said["image"].partition("x")
        given["image"] = Image.new("RGB", (int(width), int(height)))
    return given


def _shapes(pipe: Any, parts: Mapping[str, Part]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each component with weights: what a file of it holds, what is tied once; and its other buffers."""
    import torch

    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            weights: dict[str, torch.Tensor] = dict(part.named_parameters())
            saved = part.state_dict().keys()
            buffers = dict(part.named_buffers())
            weights |= {key: buffer for key, buffer in buffers.items() if key in saved}
            yield (
                name,
                {
                    "library": parts[name].library,
                    "cls": parts[name].cls,
                    "tensors": {key: list(tensor.shape) for key, tensor in weights.items()},
                    "buffers": {key: buffer.nbytes for key, buffer in buffers.items() if key not in saved},
                },
            )


if __name__ == "__main__":
    for written in write(sys.argv[1:]):
        print(f"wrote {written}", flush=True)
