"""Stand-ins for the components of every pipeline class: one weight each, and the real entry points.

A stub shows to an offload what the real component would: a method that diffusers decorates with
``apply_forward_hook`` is decorated here, ``generate`` ends in ``forward``, and any other method runs
without anybody being told.
"""

from __future__ import annotations

import inspect
import sys
from functools import cache
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers.utils.accelerate_utils import apply_forward_hook

from planner.generate.classes import pipeline_classes
from planner.target import catalogue
from planner.target.model import Target

Seen = Literal["hook", "forward", "nothing", "module", "tensor"]
"""How a call of an entry point reaches an offload: by the decorator, by ``forward`` inside it, or not
at all; the last two are a submodule called by itself and a method of a tensor that the component holds."""

UNSEEN = ("nothing", "module")
"""A use of weights that diffusers' hooks do not see. (Reading a tensor works wherever it lies.)"""

UNIT = 512
"""Bytes. The weight of the n-th component has n of them: a size tells whose memory it is."""

_SUBMODULES = {
    *("final_layer_norm", "post_layernorm", "text_projection", "visual_projection"),
    *("encoder", "embed_tokens", "rotary_emb", "vision_tower"),
}


def pipeline(name: str, call: Any, absent: frozenset[str] = frozenset()) -> Any:
    """An instance of the real class ``name`` whose components are stubs and whose ``__call__`` is ``call``.

    ``absent`` components are None. ``enable_model_cpu_offload`` is the one that reads the string, also
    where the class has a method of its own. The class's ``__init__`` does not run: it checks what stubs
    are not.
    """
    real = real_class(name)
    base = diffusers.DiffusionPipeline.enable_model_cpu_offload
    members = {"__call__": call, "__module__": real.__module__, "enable_model_cpu_offload": base}
    cls: Any = type(name, (real,), members)
    pipe = cls.__new__(cls)
    target = known(name)
    expected, _ = cls._get_signature_keys(cls)
    sizes = sizes_of(name)
    parts = {n: _stub(name, n, sizes[n]) if n in sizes and n not in absent else None for n in expected}
    order = [n for n in target.components if n in parts]
    pipe.register_modules(**{n: parts[n] for n in (*order, *(set(parts) - set(order)))})
    return pipe


@cache
def real_class(name: str) -> Any:
    """The pipeline class. Some stand at diffusers' top level as dummies only: a package is missing."""
    found = getattr(diffusers, name, None)
    if isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline):
        return found
    return {cls.__name__: cls for cls in pipeline_classes()}[name]


def known(name: str) -> Target:
    """The class in the catalogue."""
    found = catalogue.find(name)
    assert found is not None, name
    return found


def sizes_of(name: str) -> dict[str, int]:
    """Bytes of each component's weight, all different."""
    return {n: UNIT * k for k, n in enumerate(known(name).modules, 1)}


@cache
def seen(name: str, component: str, entry: str) -> Seen:
    """How a call of ``component.entry`` of class ``name`` is seen by diffusers' hooks."""
    if not entry:
        return "forward"
    *_, last = entry.split(".")
    if "." in entry or last in _SUBMODULES:
        if last in _SUBMODULES:
            return "module"
        return "tensor" if hasattr(torch.Tensor, last) else "nothing"
    for method in _methods(name, component, last):
        if getattr(getattr(method, "__code__", None), "co_qualname", "").startswith("apply_forward_hook."):
            return "hook"
        if "GenerationMixin" in method.__qualname__ or "self(" in inspect.getsource(method):
            return "forward"
    return "nothing"


class Stub(torch.nn.Module):
    """One weight of ``nbytes`` bytes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(nbytes // 4), requires_grad=False)

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def forward(self) -> None:
        return None


class _Part(torch.nn.Module):
    """Below a component: no weight of its own."""

    def forward(self) -> None:
        return None


def _stub(name: str, component: str, nbytes: int) -> Stub:
    entries = known(name).components[component].entries
    members = {entry: _method(seen(name, component, entry)) for entry in entries if "." not in entry}
    plain = {entry: method for entry, method in members.items() if method is not None}
    made: Stub = type("Stub", (Stub,), plain)(nbytes)
    for entry in entries:
        if entry not in plain:
            _nest(made, entry, seen(name, component, entry))
    return made


def _method(how: Seen) -> Any:
    def unseen(self: Any) -> None:
        return None

    def forwarded(self: Any) -> None:
        self()

    if how in ("module", "tensor"):
        return None
    return {"hook": apply_forward_hook(unseen), "forward": forwarded, "nothing": unseen}[how]


def _nest(owner: Any, entry: str, how: Seen) -> None:
    """The path of ``entry`` under ``owner``; tensors in it are empty, so that they take no memory."""
    *path, last = entry.split(".")
    for i, part in enumerate(path):
        if not hasattr(owner, part):
            if how == "tensor" and i == len(path) - 1:
                owner.register_buffer(part, torch.zeros(0))
            else:
                setattr(owner, part, _Part())
        owner = getattr(owner, part)
    if how == "module" and not hasattr(owner, last):
        setattr(owner, last, _Part())
    elif how == "nothing":
        setattr(owner, last, lambda: None)


def _methods(name: str, component: str, entry: str) -> list[Any]:
    classes = known(name).components[component].classes
    found = [_class(name, cls) for cls in classes]
    return [getattr(cls, entry) for cls in found if cls is not None and hasattr(cls, entry)]


@cache
def _class(name: str, cls: str) -> Any:
    modules = [sys.modules[base.__module__] for base in real_class(name).__mro__]
    for place in (*modules, diffusers, diffusers.models, transformers):
        if (found := getattr(place, cls, None)) is not None:
            return found
    return None
