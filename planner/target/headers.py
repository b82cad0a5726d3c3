"""The tensors of a safetensors file by its header alone: no weight is read."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.target.causes import Broken, missing, told

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of a file: its dtype as safetensors names it, its number of elements and its shape."""

    name: str
    dtype: str
    numel: int
    shape: tuple[int, ...] = ()


def read_header(path: Path, shown: str = "") -> tuple[Stored, ...]:
    """The tensors of a safetensors file; ``shown``: what it is called in messages. Raises Broken for one that
    is cut short, that is none, or that something else stands in for."""
    shown = shown or path.name
    try:
        with path.open("rb") as file:
            start = file.read(200)
            refuse(start, shown)
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else -1
            size = file.seek(0, 2)
            if not 0 < length <= LIMIT or _alike(start):
                raise Broken(f"{shown} is no safetensors file{_alike(start)}")
            if 8 + length > size:
                raise Broken(f"{shown} is cut short: {size} bytes, and its header alone has {8 + length}")
            file.seek(8)
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{shown} has no header that can be read: {_reason(error)}") from error
    if not isinstance(header, dict):
        raise Broken(f"{shown} is no safetensors file")
    header.pop("__metadata__", None)
    read = [_stored(shown, name, entry) for name, entry in header.items()]
    said = 8 + length + max((end for _, end in read), default=0)
    if said > size:
        raise Broken(f"{shown} is cut short: {size} bytes, its header says {said}")
    if said < size:  # safetensors refuses it; a copy that changed ends of lines is such a file
        raise Broken(f"{shown} is longer than its header says: {size} bytes, not {said}")
    return tuple(stored for stored, _ in read)


def read_json(path: Path, shown: str = "") -> Any:
    """A JSON file; ``shown``: what it is called in messages. Raises Broken."""
    shown = shown or path.name
    if (absent := missing(path)) is not None:
        raise Broken(f"{shown} {absent}", absent.mend)
    try:
        text = path.read_bytes()
        refuse(text, shown)
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{shown} cannot be read: {_reason(error)}") from error


def refuse(start: bytes, shown: str) -> None:
    """Raises Broken for a file whose beginning is that of what stands in for others."""
    if (found := told(start)) is not None:
        raise Broken(f"{shown} {found}", found.mend)


def _alike(start: bytes) -> str:
    """The kind of weights that has the wrong suffix. A length may have the bytes of any of them."""
    if start[8:9] == b"{":
        return ""
    if start.startswith(b"GGUF"):
        return ": it is a GGUF file, and its suffix has to be .gguf"
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return ": it is pickled, under another suffix"
    return ""


def _stored(shown: str, name: str, entry: Any) -> tuple[Stored, int]:
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
                    raise Broken(f'{shown} has a dtype that is not known: "{dtype}" of "{name}"')
                if 0 <= start <= end and end - start == numel * BYTES[dtype]:
                    return Stored(name=name, dtype=dtype, numel=numel, shape=tuple(shape)), end
    raise Broken(f'{shown} has a header that makes no sense: tensor "{name}"')


def _reason(error: Exception) -> str:
    """Without the path, which is said already."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
