"""Weight files without reading weights: safetensors headers, shards, variants."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes an element of each dtype that safetensors names."""
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
"""Those that loading casts to the pipeline's dtype."""

LIMIT = 100 << 20
"""Bytes: safetensors' own bound on a header."""

_NAME = re.compile(
    r"(?:diffusion_pytorch_model|model|pytorch_model)"
    r"(?:\.(?P<variant>[^.\-]+))?(?:-(?P<shard>\d+)-of-(?P<count>\d+))?\.safetensors"
)


class Broken(Exception):
    """A file or a set of files that is not whole; says what and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a file: its dtype as safetensors names it, and its number of elements."""

    name: str
    dtype: str
    numel: int


def weight_files(folder: Path, variant: str | None) -> tuple[tuple[Path, ...], bool]:
    """The safetensors files of a component's folder, in order, and whether they are of ``variant``.

    Without files of the variant the plain ones are taken. Raises Broken for a missing shard.
    """
    found: dict[str | None, dict[int, tuple[Path, int]]] = {}
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            shard, count = int(name["shard"] or 1), int(name["count"] or 1)
            found.setdefault(name["variant"], {})[shard] = (path, count)
    chosen = found.get(variant) or found.get(None) or {}
    if chosen:
        count = max(n for _, n in chosen.values())
        missing = [i for i in range(1, count + 1) if i not in chosen]
        if missing:
            raise Broken(f"{folder.name}: shard {missing[0]} of {count} is missing")
    return tuple(path for _, (path, _) in sorted(chosen.items())), variant in found


def read_header(path: Path) -> tuple[Stored, ...]:
    """The tensors of a safetensors file. Raises Broken for one that is cut short or no such file."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 0 < length <= LIMIT:
                raise Broken(f"{path.name} is no safetensors file")
            header = json.loads(file.read(length))
            size = file.seek(0, 2)
    except (OSError, ValueError) as error:
        raise Broken(f"{path.name} cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise Broken(f"{path.name} is no safetensors file")
    header.pop("__metadata__", None)
    try:
        ends = [entry["data_offsets"][1] for entry in header.values()]
        stored = tuple(_stored(name, entry) for name, entry in header.items())
    except (KeyError, TypeError, IndexError) as error:
        raise Broken(f"{path.name} has a header that makes no sense") from error
    if 8 + length + max(ends, default=0) > size:
        raise Broken(f"{path.name} is cut short: {size} bytes, its header says {8 + length + max(ends)}")
    return stored


def _stored(name: str, entry: Mapping[str, object]) -> Stored:
    numel = 1
    shape = entry["shape"]
    assert isinstance(shape, Iterable)
    for n in shape:
        numel *= int(n)
    dtype = str(entry["dtype"])
    if dtype not in BYTES:
        raise KeyError(dtype)
    return Stored(name=name, dtype=dtype, numel=numel)
