"""A pipeline's folder as a target: model_index.json and the headers of its weight files.

What loading makes of the weights is followed as far as headers tell: the pipeline's dtype, and the
modules that a class keeps in float32. Buffers that are not saved are not counted, so a loaded pipeline
may be a little larger: by a few KiB of rotary tables, by tens of MiB of CogVideoX's position table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.table.p3_target import BROKEN_FOLDER, MODULAR, NO_VARIANT, PICKLED, UNKNOWN_CLASS
from planner.source.text import Span
from planner.target import catalogue
from planner.target.blocks import blocks_of
from planner.target.casting import cast_sizes, quantized_sizes, renamed, tied
from planner.target.files import only_pickled, stored_tensors
from planner.target.headers import Broken, read_json
from planner.target.index import INDEX, MODULAR_INDEX, Index, read_index
from planner.target.model import Blocks, ComponentInfo, Target, Weights
from planner.target.parts import Part, parts_in
from planner.target.tree import tree_of

_WEIGHTLESS = re.compile(r".*(Tokenizer|Processor|Scheduler|Extractor)(Fast|Pil)?")


def read_folder(
    folder: Path,
    *,
    cls: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    version: str | None = None,
    given: Mapping[str, Path] | None = None,
    span: Span | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The pipeline in ``folder`` as loading with ``dtype`` (float32) and ``variant`` would have it.

    ``cls``: the class to load it as, its own when None; many classes read each other's folders (text to
    image and image to image), and one that does not fit this folder gives the folder's own. ``given``:
    folders of the components that have a source of their own; where one is not on this machine, its size
    is not known. Raises nothing.
    """
    version = version or catalogue.versions()[0]
    try:
        index = read_index(folder)
    except Broken as broken:
        if (folder / MODULAR_INDEX).is_file():
            said = f'"{folder.name}" holds a modular pipeline, which diffusers\' ComponentsManager moves'
            hint = "components_manager.enable_auto_cpu_offload()"
            return None, [finding(MODULAR, said, span=span, hint=hint)]
        return None, [finding(BROKEN_FOLDER, f'"{folder.name}": {broken}', span=span)]
    given = given or {}
    own = catalogue.find(index.cls, version)
    wanted = catalogue.find(cls, version) if cls is not None else own
    known = wanted if wanted is not None and index.suits(wanted, own, given) else own
    reader = _Reader(folder=folder, dtype=dtype or "float32", variant=variant, version=version, span=span)
    if known is None:
        said = f'"{folder.name}" holds a "{index.cls}", which diffusers {version} does not have'
        reader.found.append(finding(UNKNOWN_CLASS, said, span=span).at(Severity.WARNING))
    elif known is wanted:
        for name in index.lacks(known, given):
            reader.broken(f'{INDEX} has no "{name}", which {known.cls} needs')
    components = reader.components(index, known, given)
    reader.judge_variant(components)
    if known is not None:
        return replace(known, components=components, origin="folder"), reader.found
    target = Target(
        cls=index.cls,
        components=components,
        sequence=None,
        excluded=(),
        walk=None,
        version="",
        origin="folder",
    )
    return target, reader.found


@dataclass(kw_only=True)
class _Reader:
    """One folder; findings are gathered on the way. ``plain``: read without the variant asked for."""

    folder: Path
    dtype: str
    variant: str | None
    version: str
    span: Span | None
    found: list[Diagnostic] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    read: dict[str, tuple[Weights, tuple[Part, ...]]] = field(default_factory=dict)
    """By component: its tensors and its modules."""

    def broken(self, said: str) -> None:
        self.found.append(finding(BROKEN_FOLDER, f'"{self.folder.name}": {said}', span=self.span))

    def components(
        self, index: Index, known: Target | None, given: Mapping[str, Path]
    ) -> dict[str, ComponentInfo]:
        """Those of the class in its constructor's order; of an unknown class those of the index."""
        made = {}
        for name in index.entries if known is None else known.components:
            library, cls = index.entries.get(name, (None, None))
            info = _info(name, cls, known)
            if name in given:
                there = info.module and os.path.isdir(given[name])
                blocks = self._blocks(given[name], "", info) if there else None
                info = replace(info, present=True, bytes=blocks.bytes if blocks else None, blocks=blocks)
                info = self._named(info, "")
            elif info.present and info.module:
                blocks = self._blocks(self.folder / name, library or "", info)
                info = replace(info, bytes=blocks.bytes if blocks else None, blocks=blocks)
                info = self._named(info, library or "")
            made[name] = info
        return made

    def _named(self, info: ComponentInfo, library: str) -> ComponentInfo:
        """With its modules' names, and what its class keeps of them: a model of transformers casts all."""
        weights, parts = self.read.get(info.name, (None, None))
        keep = [p for cls in info.classes for p in catalogue.kept_in_float32(cls, "float16", self.version)]
        skip = [p for cls in info.classes for p in catalogue.skipped_in_casting(cls, self.version)]
        known = library == "transformers" or self._known(info)
        return replace(
            info, weights=weights, parts=parts, keeps=(tuple(keep), tuple(skip) if known else None)
        )

    def _known(self, info: ComponentInfo) -> bool:
        return catalogue.models(self.version).issuperset(info.classes)

    def judge_variant(self, components: Mapping[str, ComponentInfo]) -> None:
        """Plain files stand in for a variant's; where no component has it, diffusers stops."""
        if not self.plain:
            return
        sized = {name for name, info in components.items() if info.bytes is not None}
        if sized <= set(self.plain):
            said = f'"{self.folder.name}" has no files of variant "{self.variant}" at all'
            self.found.append(finding(NO_VARIANT, said, span=self.span).at(Severity.ERROR))
            return
        for name in self.plain:
            said = f'"{name}" has no files of variant "{self.variant}": the plain ones are taken'
            self.found.append(finding(NO_VARIANT, said, span=self.span))

    def _blocks(self, place: Path, library: str, info: ComponentInfo) -> Blocks | None:
        """Bytes of one component's weights on the device, None where they cannot be read.

        A component with a source of its own (no ``library``) is read without the pipeline's variant.
        """
        try:
            return self._read(place, library, info)
        except (Broken, OSError) as broken:
            self.broken(str(broken))
            return None

    def _read(self, place: Path, library: str, info: ComponentInfo) -> Blocks | None:
        if not os.path.isdir(place):
            raise Broken(f'there is no folder "{place.name}"')
        read = stored_tensors(place, library, self.variant if library else None)
        if read is None and only_pickled(place):
            said = f'"{place.name}" has only pickled weights'
            self.found.append(finding(PICKLED, said, span=self.span))
            return None
        if read is None:
            raise Broken(f"{place.name} has no weight files")
        config = read_json(place / "config.json")
        tensors, of_variant = renamed(read[0], "".join(info.classes[:1])), read[1]
        if library and self.variant is not None and not of_variant:
            self.plain.append(info.name)
        if isinstance(config, dict) and "quantization_config" in config:
            return blocks_of(tree_of(quantized_sizes(tensors, self.dtype)))
        keep = [p for cls in info.classes for p in catalogue.kept_in_float32(cls, self.dtype, self.version)]
        sizes = dict(cast_sizes(tensors, self.dtype, keep))
        loaded = [(tensor, sizes[tensor.name]) for tensor in tensors if tensor.name in sizes]
        known = library in ("diffusers", "transformers") or self._known(info)
        parts = parts_in(loaded, self.dtype, library=known, tied=tied(sizes, info.classes))
        self.read[info.name] = tuple(sizes.items()), parts
        return blocks_of(tree_of(sizes.items()))


def _info(name: str, cls: str | None, known: Target | None) -> ComponentInfo:
    """A component by its index entry. ``known`` knows what has weights, else its class's name tells."""
    expected = known.components.get(name) if known else None
    if expected is not None:
        return replace(expected, classes=(cls,) if cls else expected.classes, present=cls is not None)
    module = cls is not None and not _WEIGHTLESS.fullmatch(cls)
    return ComponentInfo(name=name, classes=(cls,) if cls else (), module=module, present=cls is not None)
