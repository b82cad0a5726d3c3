"""A pipeline's folder as a target: model_index.json and the headers of its weight files.

What loading makes of the weights is followed as far as headers tell: the pipeline's dtype, and the
modules that a class keeps in float32. Buffers that are not saved (rotary tables, a few KiB) are not
counted, so a loaded pipeline may be a little larger.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_target import BROKEN_FOLDER, NO_VARIANT, PICKLED
from planner.source.text import Span
from planner.target import catalogue
from planner.target.blocks import blocks_of
from planner.target.headers import BYTES, FLOATING, Broken, Stored, read_header, weight_files
from planner.target.model import Blocks, ComponentInfo, Target
from planner.target.tree import Tree

INDEX = "model_index.json"
_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def read_folder(
    folder: Path,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    version: str | None = None,
    span: Span | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The pipeline in ``folder`` as loading with ``dtype`` and ``variant`` would have it. Raises nothing."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        cls = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f'"{folder}" has no readable {INDEX}: {error}'
        return None, [finding(BROKEN_FOLDER, said, span=span)]
    known = catalogue.find(cls, version)
    found: list[Diagnostic] = []
    components: dict[str, ComponentInfo] = {}
    for name, said in index.items():
        if name.startswith("_") or not (isinstance(said, list) and len(said) == 2):
            continue
        info = _info(name, said[1], known)
        if info.present and info.module:
            blocks, problems = _blocks(folder / name, said[1], dtype or "float32", variant, version, span)
            found += problems
            info = replace(info, bytes=blocks.bytes if blocks else None, blocks=blocks)
        components[name] = info
    return (
        Target(
            cls=cls,
            components=components,
            sequence=known.sequence if known else None,
            excluded=known.excluded if known else (),
            walk=known.walk if known else None,
            version=known.version if known else "",
            origin="folder",
        ),
        found,
    )


def _info(name: str, cls: str | None, known: Target | None) -> ComponentInfo:
    """A component by its index entry; ``[null, null]`` is None."""
    expected = known.components.get(name) if known else None
    guess = cls is not None and not cls.endswith(
        ("Tokenizer", "TokenizerFast", "Processor", "Scheduler", "Extractor")
    )
    return ComponentInfo(
        name=name,
        classes=(cls,) if cls else (expected.classes if expected else ()),
        module=expected.module if expected else guess,
        optional=expected.optional if expected else False,
        present=cls is not None,
        entries=expected.entries if expected else (),
    )


def _blocks(
    folder: Path, cls: str, dtype: str, variant: str | None, version: str | None, span: Span | None
) -> tuple[Blocks | None, list[Diagnostic]]:
    """Bytes of one component's weights on the device, by the modules that their names tell."""
    if not folder.is_dir():
        return None, [finding(BROKEN_FOLDER, f'"{folder.parent}" has no folder "{folder.name}"', span=span)]
    try:
        files, of_variant = weight_files(folder, variant)
        stored = [tensor for file in files for tensor in read_header(file)]
    except Broken as broken:
        return None, [finding(BROKEN_FOLDER, f'"{folder.parent}": {broken}', span=span)]
    if not files:
        if any(path.suffix in (".bin", ".pt", ".pth", ".ckpt") for path in folder.iterdir()):
            return None, [finding(PICKLED, f'"{folder}" has only pickled weights', span=span)]
        return None, [finding(BROKEN_FOLDER, f'"{folder}" has no weight files', span=span)]
    found = []
    if variant is not None and not of_variant:
        found.append(finding(NO_VARIANT, f'"{folder}" has no files of variant "{variant}"', span=span))
    keep = catalogue.kept_in_float32(cls, dtype, version)
    tree = Tree()
    for tensor in stored:
        tree.add(tensor.name, tensor.numel, _size(tensor, dtype, keep))
    return blocks_of(tree), found


def _size(tensor: Stored, dtype: str, keep: tuple[str, ...]) -> int:
    """Bytes an element, once it is loaded."""
    if tensor.dtype not in FLOATING:
        return BYTES[tensor.dtype]
    return 4 if any(name in tensor.name.split(".") for name in keep) else _SIZES[dtype]
