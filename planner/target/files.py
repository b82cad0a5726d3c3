"""Which weight files of a component's folder are read: variants, shards and their index.

As diffusers (0.42.1, modeling_utils.py:1267) and transformers (5.x, modeling_utils.py:591) choose:
the former takes an index before a single file, the latter a single file before an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from planner.target.headers import Broken, Stored, read_header, read_json

PICKLES = (".bin", ".pt", ".pth", ".ckpt")

_DIFFUSERS = "diffusion_pytorch_model"
_TRANSFORMERS = "model"


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
    if any(_shards(folder)):
        raise Broken(f"{folder.name} has shards and no index of them")
    return None


def only_pickled(folder: Path) -> bool:
    """Whether there are weights, and none in a file that can be read without running it."""
    names = [path.name for path in _entries(folder)]
    return any(name.endswith(PICKLES) for name in names)


def _of(folder: Path, stem: str, variant: str | None) -> tuple[Stored, ...] | None:
    single = folder / (f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors")
    index = next((path for path in _indices(folder, stem, variant) if path.is_file()), None)
    if index is not None and (stem == _DIFFUSERS or not single.is_file()):
        return tuple(_sharded(folder, index))
    return read_header(single) if single.is_file() else None


def _indices(folder: Path, stem: str, variant: str | None) -> Iterator[Path]:
    """Where an index may be; a variant's has stood in two places."""
    if variant is None:
        yield folder / f"{stem}.safetensors.index.json"
    else:
        yield folder / f"{stem}.safetensors.index.{variant}.json"
        yield folder / f"{stem}.safetensors.{variant}.index.json"


def _sharded(folder: Path, index: Path) -> Iterator[Stored]:
    said = read_json(index)
    table = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise Broken(f"{folder.name}/{index.name} has no weight_map")
    for name in sorted(set(table.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise Broken(f'{folder.name} lacks the shard "{name}"')
        tensors = read_header(folder / name)
        there = {tensor.name for tensor in tensors}
        missing = [key for key, place in table.items() if place == name and key not in there]
        if missing:
            raise Broken(f'{folder.name}/{name} lacks the tensor "{missing[0]}" that its index names')
        yield from tensors


def _stems(library: str) -> tuple[str, ...]:
    known = {"diffusers": (_DIFFUSERS,), "transformers": (_TRANSFORMERS,)}
    return known.get(library, (_DIFFUSERS, _TRANSFORMERS))


def _shards(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if "-of-" in path.name and path.suffix == ".safetensors")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise Broken(f"{folder.name} cannot be read: {error.strerror}") from error
