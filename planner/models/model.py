"""What ships of a model, as ``data/index.json`` and ``data/NAME.json.gz`` have it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from planner.predict.profile import CallProfile
from planner.predict.stored import from_json

FOLDER = "data"
INDEX = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """For which kernels a call was traced, as ``planner.cards.kernels.Kernels`` has them."""

    name: str
    attention: str
    nchw: float
    cublas: int
    sms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedCall:
    """One call. ``arguments``: without the prompt; ``tiling``: of the components that are tiled; ``line``: of
    the model's file, on which its profile is."""

    arguments: Mapping[str, Any]
    tiling: tuple[str, ...]
    kernels: Kind
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """``ids``: repositories on the hub; ``dtype``: of the traced calls; ``guided``: the argument that makes
    each step run for two above 1, "" where none does, with ``negative`` only beside a negative prompt;
    ``defaults``: of the call, where the class leaves them to a config; ``by_text``: a longer prompt takes
    more; ``image``: size of the image that was given; ``versions``: of what it was traced with."""

    name: str
    ids: tuple[str, ...]
    cls: str
    dtype: str
    guided: str
    negative: bool
    defaults: Mapping[str, Any]
    by_text: bool
    image: str
    versions: Mapping[str, str]
    calls: tuple[ShippedCall, ...]

    @property
    def made_with(self) -> str:
        """``torch 2.13.0, diffusers 0.42.1, transformers 5.23.0``."""
        return ", ".join(f"{name} {said.partition('+')[0]}" for name, said in self.versions.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """A component: ``cls`` of ``library``, the shapes of its weights by name (what is tied once), and the
    bytes of its buffers."""

    library: str
    cls: str
    tensors: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, int]


@cache
def models() -> Mapping[str, Model]:
    """By hub id."""
    text = (resources.files("planner.models") / FOLDER / INDEX).read_text(encoding="utf-8")
    made = (_model(name, said) for name, said in json.loads(text).items())
    return {one: model for model in made for one in model.ids}


def shapes(model: Model) -> Mapping[str, Shapes]:
    """Of its components that have weights."""
    said = json.loads(_lines(model.name)[0])
    return {
        name: Shapes(
            library=one["library"],
            cls=one["cls"],
            tensors={key: tuple(shape) for key, shape in one["tensors"].items()},
            buffers=one["buffers"],
        )
        for name, one in said.items()
    }


def profile(model: Model, call: ShippedCall) -> CallProfile:
    """What was traced of ``call``. Raises planner.predict.stored.FormError for data of another version."""
    return _profile(model.name, call.line)


@cache  # a search compiles a plan a hundred times, and each time asks which call ships
def _profile(name: str, line: int) -> CallProfile:
    return from_json(_lines(name)[line])


@cache
def _lines(name: str) -> tuple[str, ...]:
    data = (resources.files("planner.models") / FOLDER / f"{name}.json.gz").read_bytes()
    return tuple(gzip.decompress(data).decode("utf-8").splitlines())


def _model(name: str, said: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        ids=tuple(said["ids"]),
        cls=said["class"],
        dtype=said["dtype"],
        guided=said["guided"],
        negative=said["negative"],
        defaults=said["defaults"],
        by_text=said["by_text"],
        image=said["image"],
        versions=said["versions"],
        calls=tuple(
            ShippedCall(
                arguments=call["arguments"],
                tiling=tuple(call["tiling"]),
                kernels=Kind(**call["kernels"]),
                line=number,
            )
            for number, call in enumerate(said["calls"], 1)
        ),
    )
