"""A component's modules by name, as far as they can be known: from a built model, or from a file's header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from planner.target.headers import Stored

KINDS = frozenset(
    {"Linear", "Embedding", *("Conv1d", "Conv2d", "Conv3d")}
    | {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"}
)
"""torch classes that quantization knows; a subclass is of the kind of its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module with weights of its own.

    ``kinds``: those that it may be of (one for a built module, several where a header leaves it open, none
    for a norm); ``classes``: its class and that class's bases, None when not known.
    """

    name: str
    kinds: frozenset[str]
    classes: frozenset[str] | None = None
    parameters: int = 0
    nbytes: int = 0


def parts_of(module: Any) -> Iterator[Part]:
    """The modules of a built model, on any device, that have weights and are of a kind. Duck-typed.

    peft's ``x.base_layer`` is told as ``x``, the name that it has without an adapter. What torch reads
    without calling (the output projection of ``MultiheadAttention``) is left out: no hook would see it.
    """
    seen: set[int] = set()
    read = {
        id(child)
        for parent in module.modules()
        if "MultiheadAttention" in {c.__name__ for c in type(parent).__mro__}
        for child in parent.children()
    }
    for name, part in module.named_modules():
        classes = frozenset(c.__name__ for c in type(part).__mro__)
        kinds = classes & KINDS
        if not kinds or id(part) in seen or id(part) in read:
            continue
        seen.add(id(part))
        own = [tensor for tensor in part._parameters.values() if tensor is not None]
        yield Part(
            name=name.replace(".base_layer", ""),
            kinds=kinds,
            classes=classes,
            parameters=sum(t.numel() for t in own),
            nbytes=sum(t.numel() * t.element_size() for t in own),
        )


def parts_in(tensors: Iterable[tuple[Stored, int]]) -> tuple[Part, ...]:
    """The modules that a file's tensors, each with its bytes once loaded, belong to.

    A weight's dimensions tell what it may be of: two a Linear or an Embedding, more a convolution.
    """
    found: dict[str, list[tuple[Stored, int]]] = {}
    for stored, nbytes in tensors:
        found.setdefault(stored.name.rpartition(".")[0], []).append((stored, nbytes))
    return tuple(
        Part(
            name=name,
            kinds=_possible(next((s.ndim for s, _ in own if s.name.endswith("weight")), 0)),
            parameters=sum(s.numel for s, _ in own),
            nbytes=sum(n for _, n in own),
        )
        for name, own in found.items()
        if name
    )


def _possible(ndim: int) -> frozenset[str]:
    if ndim == 2:
        return frozenset({"Linear", "Embedding"})
    return frozenset(k for k in KINDS if k.endswith(f"{ndim - 2}d"))
