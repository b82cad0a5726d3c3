"""What loading makes of stored tensors: their bytes in the dtype that they end up in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from planner.target.headers import BYTES, FLOATING, Stored

SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes an element of the dtypes that a pipeline is loaded in."""
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What safetensors calls them."""

TIED = frozenset(("shared.weight", "encoder.embed_tokens.weight"))
"""T5's embedding: older files hold it under both names, and it is loaded once."""


_QWEN = (
    (re.compile(r"^visual"), "model.visual"),
    (re.compile(r"^model(?!\.(language_model|visual))"), "model.language_model"),
)
_LLAVA = (
    (re.compile(r"^language_model\.lm_head"), "lm_head"),
    (re.compile(r"^language_model\.model"), "model.language_model"),
    (re.compile(r"^(vision_tower|multi_modal_projector)"), r"model.\1"),
)
RENAMED: Mapping[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "Qwen2VLForConditionalGeneration": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": _QWEN,
    **{f"{name}ForConditionalGeneration": _LLAVA for name in ("Llava", "Mistral3", "Gemma3")},
}
"""Models whose files have other names than their modules: what is found, and what is in its place
(transformers 5.23, conversion_mapping.py)."""


HEADED = ("ForCausalLM", "ForConditionalGeneration")
"""How transformers names the classes that have a head."""


def renamed(tensors: Iterable[Stored], cls: str) -> tuple[Stored, ...]:
    """The tensors under the names that they have in a loaded model of class ``cls``."""

    def name(tensor: Stored) -> str:
        said = tensor.name
        for pattern, new in RENAMED.get(cls, ()):
            said = pattern.sub(new, said)
        return said

    return tuple(replace(tensor, name=name(tensor)) for tensor in tensors)


def tied(names: Iterable[str], classes: Iterable[str]) -> tuple[str, ...]:
    """The embedding of a language model whose file has no head: it is the head's weight too."""
    found = tuple(names)
    if "lm_head.weight" in found or not any(cls.endswith(HEADED) for cls in classes):
        return ()
    return tuple(name for name in found if name.endswith("embed_tokens.weight"))


def cast_sizes(tensors: Iterable[Stored], dtype: str, keep: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Name and bytes of each tensor in ``dtype``; what has a part of ``keep`` in its name stays float32."""
    kept = frozenset(keep)
    tied: set[int] = set()
    for tensor in tensors:
        if tensor.name in TIED:
            if tensor.numel in tied:
                continue
            tied.add(tensor.numel)
        size = BYTES[tensor.dtype]
        if tensor.dtype in FLOATING:
            size = 4 if kept.intersection(tensor.name.split(".")) else SIZES[dtype]
        yield tensor.name, tensor.numel * size


def converted(tensors: Iterable[Stored], dtype: str, keep: Iterable[str]) -> int:
    """Bytes in files of what loading converts, being stored in another dtype than it is loaded in; all else
    is used as it lies there. Arguments as for ``cast_sizes``."""
    kept = frozenset(keep)
    return sum(
        tensor.numel * BYTES[tensor.dtype]
        for tensor in tensors
        if tensor.dtype in FLOATING
        and tensor.dtype != ("F32" if kept.intersection(tensor.name.split(".")) else NAMES[dtype])
    )


def quantized_sizes(tensors: Iterable[Stored], dtype: str) -> Iterator[tuple[str, int]]:
    """The same for a component that is stored quantized: only half-precision weights are cast.

    Approximate: what a backend keeps beside its weights differs from one to the next.
    """
    for tensor in tensors:
        half = tensor.dtype in ("F16", "BF16")
        yield tensor.name, tensor.numel * (SIZES[dtype] if half else BYTES[tensor.dtype])
