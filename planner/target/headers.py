"""The tensors of a safetensors file by its header alone: no weight is read."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes an element of each dtype that safetensors names."""
FLOATING = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0"))
"""Those that loading casts to the pipeline's dtype."""

LIMIT = 100_000_000
"""Bytes: safetensors' own bound on a header."""


class Broken(Exception):
    """A file or a set of files that is not whole; says what and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a file: its dtype as safetensors names it, its number of elements and its shape."""

    name: str
    dtype: str
    numel: int
    shape: tuple[int, ...] = ()


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
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{path.name} has no header that can be read: {_reason(error)}") from error
    if not isinstance(header, dict):
        raise Broken(f"{path.name} is no safetensors file")
    header.pop("__metadata__", None)
    read = [_stored(path, name, entry) for name, entry in header.items()]
    said = 8 + length + max((end for _, end in read), default=0)
    if said > size:
        raise Broken(f"{path.name} is cut short: {size} bytes, its header says {said}")
    return tuple(stored for stored, _ in read)


def read_json(path: Path) -> Any:
    """A JSON file. Raises Broken."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{path.name} cannot be read: {_reason(error)}") from error


def _stored(path: Path, name: str, entry: Any) -> tuple[Stored, int]:
    """A tensor and where its bytes end, counted from the header's end."""
    match entry:
        case {"dtype": str() as dtype, "shape": [*shape], "data_offsets": [int() as start, int() as end]}:
            numel = 1
            for n in shape:
                if type(n) is not int or n < 0:
                    break
                numel *= n
            else:
                if dtype not in BYTES:
                    raise Broken(f'{path.name} has a dtype that is not known: "{dtype}" of "{name}"')
                if 0 <= start <= end and end - start == numel * BYTES[dtype]:
                    return Stored(name=name, dtype=dtype, numel=numel, shape=tuple(shape)), end
    raise Broken(f'{path.name} has a header that makes no sense: tensor "{name}"')


def _reason(error: Exception) -> str:
    """Without the path, which is said already."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
