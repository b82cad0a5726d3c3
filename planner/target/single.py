"""Single files of weights: what each holds of a pipeline's components, from its header.

A checkpoint has the names of its authors' code, not those of the built models: sizes are known, and
modules are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from planner.target.casting import SIZES, cast_sizes
from planner.target.causes import Broken
from planner.target.gguf import read_gguf
from planner.target.headers import read_header, refuse
from planner.target.model import Weights

_PREFIXES = (
    (r"(model\.)?diffusion_model\.", ("unet", "transformer")),
    (r"(first_stage_model|vae)\.", ("vae",)),
    (r"conditioner\.embedders\.0\.model\.", ("text_encoder_2",)),  # the refiner has the second one alone
    (r"conditioner\.embedders\.0\.", ("text_encoder",)),
    (r"conditioner\.embedders\.1\.", ("text_encoder_2",)),
    (r"cond_stage_model\.", ("text_encoder",)),
    (r"text_encoders\.clip_l\.", ("text_encoder",)),
    (r"text_encoders\.clip_g\.", ("text_encoder_2",)),
    (r"text_encoders\.t5xxl\.", ("text_encoder_3", "text_encoder_2", "text_encoder")),
    (r"text_encoders\.", ("text_encoder",)),
)
"""Beginnings of names in checkpoints that hold several components (diffusers 0.42.1, single_file_utils.py;
ComfyUI's ``CheckpointSave``), and the component that each is: the first of these that the class has."""


def file_tensors(path: Path, dtype: str, shown: str = "") -> Weights:
    """Names and bytes of a file's tensors once loaded in ``dtype``; what GGUF holds quantized stays as it is.
    Raises Broken."""
    if path.suffix == ".gguf":
        return tuple(
            (tensor.name, tensor.numel * SIZES[dtype] if tensor.plain else tensor.nbytes)
            for tensor in read_gguf(path, shown)
        )
    if path.suffix == ".safetensors":
        return tuple(cast_sizes(read_header(path, shown), dtype, ()))
    raise Broken(f"{shown or path.name} is neither a .safetensors nor a .gguf file")


def by_component(weights: Weights, names: Iterable[str]) -> Mapping[str, Weights]:
    """What a file holds of each of the components ``names``, without the prefixes; all of it is the
    denoiser's where no name says whose it is. What belongs to none (averages that training keeps) is left
    out."""
    known = tuple(names)
    found: dict[str, list[tuple[str, int]]] = {}
    for name, nbytes in weights:
        owner, rest = _owner(name, known)
        if owner:
            found.setdefault(owner, []).append((rest, nbytes))
    denoiser = next((name for name in ("unet", "transformer") if name in known), "")
    if not found and denoiser:
        return {denoiser: weights}
    return {name: tuple(tensors) for name, tensors in found.items()}


def of_component(weights: Weights, name: str) -> Weights:
    """A file given as the source of component ``name``: its own part of a checkpoint of several, else all."""
    found = {_owners(tensor) for tensor, _ in weights} - {()}
    mine = tuple((tensor, n) for tensor, n in weights if name in _owners(tensor))
    return mine if len(found) > 1 and mine else weights


def _owner(name: str, known: tuple[str, ...]) -> tuple[str, str]:
    prefix, owners = _prefix(name)
    return next((owner for owner in owners if owner in known), ""), name[prefix:]


def _owners(name: str) -> tuple[str, ...]:
    return _prefix(name)[1]


def _prefix(name: str) -> tuple[int, tuple[str, ...]]:
    """Length of the beginning that says whose a tensor is, and whose."""
    for prefix, owners in _PREFIXES:
        if match := re.match(prefix, name):
            return match.end(), owners
    return 0, ()


def check_pickle(path: Path) -> None:
    """Raises Broken for a file that is none of weights, whatever its suffix: torch's archives are zip files,
    or begin as a pickle or a tar does (torch/serialization.py)."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise Broken(f"{path.name} cannot be read: {error.strerror or error}") from error
    refuse(start, path.name)
    if start.startswith((b"PK", b"\x80")) or start[257:262] == b"ustar":
        return
    what = f"{path.name} is no file of weights: neither safetensors nor GGUF nor what torch saves"
    if start.startswith(b"GGUF") or start[8:9] == b"{":
        suffix = ".gguf" if start.startswith(b"GGUF") else ".safetensors"
        said = f"{path.name} holds {suffix[1:]}, and loading knows that only by the suffix {suffix}"
        raise Broken(said, f"mv {path.name} {path.stem}{suffix}")
    raise Broken(what, "a folder with model_index.json, or a file that ends in .safetensors or .gguf")
