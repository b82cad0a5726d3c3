"""The tensors of a GGUF file by its header alone (version 2 and 3 of the format, ggml's docs/gguf.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from planner.target.causes import Broken
from planner.target.headers import refuse

BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
"""Elements and bytes of a block of each type (gguf 0.19, GGML_QUANT_SIZES)."""
PLAIN = (0, 1)
"""F32 and F16: diffusers (0.42.1, model_loading_utils.py) loads them as ordinary weights, in the pipeline's
dtype. What is of another type stays as it is stored."""

ALIGNMENT = 32
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MANY = 10_000_000
"""More tensors or values than a model has: the number is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One tensor: elements, bytes as stored, and whether it is an ordinary weight."""

    name: str
    numel: int
    nbytes: int
    plain: bool


def read_gguf(path: Path, shown: str = "") -> tuple[Packed, ...]:
    """The tensors of a GGUF file; ``shown``: what it is called in messages. Raises Broken for one that is cut
    short, that is none, or that something else stands in for."""
    shown = shown or path.name
    try:
        with path.open("rb") as file:
            refuse(start := file.read(200), shown)
            if not start.startswith(b"GGUF"):
                raise Broken(f"{shown} is no GGUF file")
            file.seek(4)
            found, end = _tensors(file)
            size = file.seek(0, 2)
    except (EOFError, struct.error) as error:
        raise Broken(f"{shown} is cut short: its header does not end") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{shown} has no header that can be read: {error}") from error
    if end > size:
        raise Broken(f"{shown} is cut short: {size} bytes, its header says {end}")
    return found


def _tensors(file: BinaryIO) -> tuple[tuple[Packed, ...], int]:
    """All of them, and where the last one ends."""
    version, count, values = struct.unpack("<IQQ", _take(file, 20))
    if version not in (2, 3) or count > _MANY or values > _MANY:
        raise ValueError(f"version {version} with {count} tensors is not known")
    alignment = ALIGNMENT
    for _ in range(values):
        key = _text(file)
        kind = _number(file, 4)
        if key == "general.alignment" and kind == 4:
            alignment = _number(file, 4) or ALIGNMENT
        else:
            _skip(file, kind)
    read = []
    for _ in range(count):
        name = _text(file)
        shape = [_number(file, 8) for _ in range(_number(file, 4))]
        kind, offset = _number(file, 4), _number(file, 8)
        if kind not in BLOCKS:
            raise ValueError(f'tensor "{name}" is of the type {kind}, which is not known')
        elements, nbytes = BLOCKS[kind]
        whole = Packed(
            name=name, numel=prod(shape), nbytes=prod(shape) // elements * nbytes, plain=kind in PLAIN
        )
        read.append((whole, offset))
    data = -(-file.tell() // alignment) * alignment
    return tuple(t for t, _ in read), data + max((at + t.nbytes for t, at in read), default=0)


def _take(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _number(file: BinaryIO, size: int) -> int:
    return int.from_bytes(_take(file, size), "little")


def _text(file: BinaryIO) -> str:
    length = _number(file, 8)
    if length > _MANY:
        raise ValueError("a name has no end")
    return _take(file, length).decode("utf-8", "replace")


def _skip(file: BinaryIO, kind: int) -> None:
    """Past one value of the metadata; a vocabulary is an array of strings."""
    if kind in _SCALARS:
        _take(file, _SCALARS[kind])
    elif kind == _STRING:
        _text(file)
    elif kind == _ARRAY:
        inner, count = _number(file, 4), _number(file, 8)
        if count > _MANY:
            raise ValueError("an array has no end")
        if inner in _SCALARS:
            _take(file, _SCALARS[inner] * count)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        raise ValueError(f"a value is of the type {kind}, which is not known")
