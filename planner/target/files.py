"""Which weight files of a component's folder are read: variants, shards and their index.

As diffusers (0.42.1, modeling_utils.py:1267) and transformers (5.x, modeling_utils.py:591) choose:
the former takes an index before a single file, the latter a single file before an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from planner.target.causes import AGAIN, Broken, missing
from planner.target.headers import Stored, read_header, read_json

_DIFFUSERS = "diffusion_pytorch_model"
_TRANSFORMERS = "model"
_PICKLED = {_DIFFUSERS: _DIFFUSERS, _TRANSFORMERS: "pytorch_model"}
"""What a library calls its pickled weights, by what it calls the others."""
_FORMATS = {".msgpack": "Flax", ".h5": "TensorFlow", ".onnx": "ONNX", ".tflite": "TensorFlow Lite"}
_SHARD = r"(?:-\d{5}-of-\d{5})?"


def stored_tensors(folder: Path, library: str, variant: str | None) -> tuple[tuple[Stored, ...], bool] | None:
    """Every tensor that loading ``folder`` reads, and whether they are of ``variant``; None without weights.

    ``library``: who loads the component. Without files of the variant the plain ones are taken. Raises
    Broken for a shard that is missing, a file that is cut short, an index that names what is not there.
    """
    for which in dict.fromkeys((variant, None)):
        for stem in _stems(library):
            tensors = _of(folder, stem, which)
            if tensors is not None:
                return tensors, which is not None
        if which is not None and which in pickled_variants(folder, library):
            return None  # its library asks for the variant, and then there is only the pickle
    if any(_shards(folder)):
        raise Broken(f"{folder.name} has shards and no index of them")
    return None


def variants(folder: Path, library: str) -> tuple[str, ...]:
    """The variants that there are weights of, in files that can be read without running them."""
    stems = "|".join(_stems(library))
    return _named(folder, rf"({stems}){_SHARD}\.(?P<variant>[^.]+?){_SHARD}\.safetensors")


def pickled_variants(folder: Path, library: str) -> tuple[str, ...]:
    """The variants that there are pickled weights of, "" for plain ones. Other ``.bin`` files, such as an
    optimizer's state, are no weights."""
    stems = "|".join(_PICKLED[stem] for stem in _stems(library))
    return _named(folder, rf"({stems})(\.(?P<variant>[^.]+?))?{_SHARD}\.(bin|pt|pth|ckpt)")


def other_format(folder: Path) -> str:
    """Whose weights there are that neither library reads here, "" for nobody's."""
    found = (_FORMATS[path.suffix] for path in _entries(folder) if path.suffix in _FORMATS)
    return next(found, "")


def _named(folder: Path, pattern: str) -> tuple[str, ...]:
    found = (re.fullmatch(pattern, path.name) for path in _entries(folder))
    return tuple(sorted({match["variant"] or "" for match in found if match}))


def _of(folder: Path, stem: str, variant: str | None) -> tuple[Stored, ...] | None:
    single = folder / (f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors")
    index = next((path for path in _indices(folder, stem, variant) if _there(path)), None)
    if index is not None and (stem == _DIFFUSERS or not _there(single)):
        return tuple(_sharded(folder, index))
    return read_header(single, f"{folder.name}/{single.name}") if _there(single) else None


def _there(path: Path) -> bool:
    """Raises Broken for a link to nothing."""
    if (absent := missing(path)) is not None:
        raise Broken(f"{path.parent.name}/{path.name} {absent}", absent.mend)
    return path.is_file()


def _indices(folder: Path, stem: str, variant: str | None) -> Iterator[Path]:
    """Where an index may be; a variant's has stood in two places."""
    if variant is None:
        yield folder / f"{stem}.safetensors.index.json"
    else:
        yield folder / f"{stem}.safetensors.index.{variant}.json"
        yield folder / f"{stem}.safetensors.{variant}.index.json"


def _sharded(folder: Path, index: Path) -> Iterator[Stored]:
    shown = f"{folder.name}/{index.name}"
    said = read_json(index, shown)
    table = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise Broken(f"{shown} has no weight_map")
    names = sorted(set(table.values()))
    for name in names:
        if not name.endswith(".safetensors"):
            raise Broken(f'{shown} names a shard that is no safetensors file: "{name}"')
    lacking = [name for name in names if Path(name).name != name or not _there(folder / name)]
    if lacking:
        more = f", and {len(lacking) - 1} more of {len(names)}" if len(lacking) > 1 else ""
        raise Broken(f'{folder.name} lacks the shard "{lacking[0]}"{more}', f"{AGAIN}, with all its shards")
    for name in names:
        yield from _shard(folder, name, table)


def _shard(folder: Path, name: str, table: dict[str, str]) -> tuple[Stored, ...]:
    """A shard's tensors, which are those that the index says."""
    shown = f"{folder.name}/{name}"
    tensors = read_header(folder / name, shown)
    there = {tensor.name for tensor in tensors}
    gone = [key for key, place in table.items() if place == name and key not in there]
    if gone:
        more = f", and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise Broken(f'{shown} lacks the tensor "{gone[0]}" that its index names{more}', _OTHER)
    strange = sorted(key for key in there if table.get(key) != name)
    if strange:
        other = table.get(strange[0])
        why = f'is in "{other}" by its index' if other else "is not in its index"
        raise Broken(f'{shown} has the tensor "{strange[0]}", which {why}', _OTHER)
    return tensors


_OTHER = "shard and index are not of one download: download or copy them again"


def _stems(library: str) -> tuple[str, ...]:
    known = {"diffusers": (_DIFFUSERS,), "transformers": (_TRANSFORMERS,)}
    return known.get(library, (_DIFFUSERS, _TRANSFORMERS))


def _shards(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if re.search(r"-of-\d+\.safetensors$", path.name))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise Broken(f"{folder.name} cannot be read: {error.strerror}") from error
