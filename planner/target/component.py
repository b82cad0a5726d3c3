"""One component's weights as loading would have them: from a folder's headers, or from a single file's.

What loading makes of the weights is followed as far as headers tell: the pipeline's dtype, and the
modules that a class keeps in float32. Buffers that are not saved are not counted, so a loaded pipeline
may be a little larger: by a few KiB of rotary tables, by tens of MiB of CogVideoX's position table.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, Severity, finding
from planner.diagnostics.table.p3_target import BROKEN_FOLDER, FOREIGN_CODE, NO_VARIANT, PICKLED
from planner.source.text import Span
from planner.target.blocks import blocks_of
from planner.target.casting import cast_sizes, converted, quantized_sizes, renamed, tied
from planner.target.catalogue import Catalogue, models
from planner.target.causes import AGAIN, Broken
from planner.target.files import other_format, pickled_variants, stored_tensors, variants
from planner.target.headers import Stored, read_json
from planner.target.index import read_index, trusted
from planner.target.model import Blocks, ComponentInfo, Weights
from planner.target.parts import Part, parts_in
from planner.target.place import INDEX, Place
from planner.target.single import check_pickle, file_tensors, of_component
from planner.target.tree import tree_of

PIPELINE = "/pipeline/source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where a plan names the source of a component, for what is said of it."""

    span: Span | None = None
    pointer: str = PIPELINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A component's own source."""

    place: Place
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """What a folder's headers tell of a component, as ``ComponentInfo`` has it."""

    weights: Weights | None = None
    parts: tuple[Part, ...] | None = None
    blocks: Blocks
    quantized: str = ""
    converted: int | None = None


@dataclass(kw_only=True)
class Reader:
    """Reads components with one pipeline's ``dtype`` and ``variant``; findings are gathered on the way.

    ``traced``: the components whose weights the caller knows from their configs, so that they may have no
    files; ``plain``: those that have no files of the variant, ``variants``: those that have nothing but files
    of variants, and which.
    """

    dtype: str
    variant: str | None
    classes: Catalogue
    traced: Collection[str] = ()
    found: list[Diagnostic] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def inside(self, info: ComponentInfo, folder: Path, library: str, asked: Asked) -> ComponentInfo:
        """A component of the pipeline in ``folder``; ``library``: where its index says that its class is."""
        return self._read(info, folder / info.name, library, asked, f'"{folder.name}"')

    def given(self, info: ComponentInfo, given: Given) -> ComponentInfo:
        """A component from its own source: a folder of its own, a pipeline's folder that has one of its name,
        or a single file. One that is not on this disk has no size."""
        info, place = replace(info, present=True), given.place
        if not place.here or not info.module:
            return info
        label = f'"{info.name}" from "{place.source}"'
        if place.kind == "file":
            return self._single(info, place, given.asked, label)
        if not os.path.isfile(place.path / INDEX):
            if os.path.isfile(place.path / info.name / "config.json"):
                said = f'it has no config.json, and a folder "{info.name}" that has one'
                self.broken(Broken(said, f"source: {place.source}/{info.name}"), given.asked, label)
                return info
            return self._read(info, place.path, "", given.asked, label)
        try:
            index = read_index(place.path)
            library, cls = index.entries.get(info.name, (None, None))
            if library is None or cls is None:
                have = ", ".join(name for name, (of, _) in index.entries.items() if of is not None)
                raise Broken(f'it holds a {index.cls}, which has no "{info.name}"', f"it has {have}")
        except Broken as broken:
            self.broken(broken, given.asked, label)
            return info
        self.trust(info.name, library, given.asked, label)
        info = replace(info, classes=(cls,))
        return self._read(info, place.path / info.name, library, given.asked, label)

    def trust(self, name: str, library: str, asked: Asked, label: str) -> None:
        """Says of a component whose class is in some other package: importing that runs it."""
        if not trusted(library):
            said = f'{label} has "{name}" from the package "{library}", which importing would run'
            self.say(FOREIGN_CODE, said, asked, "plan apply --trust-remote-code imports it, if you trust it")

    def built_in(
        self, info: ComponentInfo, shapes: Mapping[str, Sequence[int]], buffers: Mapping[str, int]
    ) -> ComponentInfo:
        """With the tensors and modules of a built-in's component, which is stored in float32, and its
        buffers' bytes."""
        stored = [
            Stored(name=name, dtype="F32", numel=prod(shape), shape=tuple(shape))
            for name, shape in shapes.items()
        ]
        library = "transformers" if info.name.startswith("text_encoder") else "diffusers"
        weights, parts, others = self._loaded(info, stored, known=True)
        info = replace(info, converted=others)
        return self._kept(info, (*weights, *buffers.items()), parts, library)

    def say(self, code: Code, said: str, asked: Asked, hint: str = "") -> None:
        """A finding where the plan names the source."""
        self.found.append(finding(code, said, span=asked.span, pointer=asked.pointer, hint=hint))

    def broken(self, broken: Broken | OSError, asked: Asked, label: str) -> None:
        """What is not whole, with its mend."""
        mend = broken.mend if isinstance(broken, Broken) else ""
        self.say(BROKEN_FOLDER, f"{label}: {broken}", asked, mend)

    def judge_variants(self, sized: Sequence[str], label: str, asked: Asked) -> None:
        """Plain files stand in for a variant's; where no component has it, diffusers stops. What has only
        other variants cannot be loaded: one variant is asked for all."""
        if self.plain and set(sized) <= set(self.plain) and not self.variants:
            said = f'{label} has no files of variant "{self.variant}" at all'
            self.found.append(finding(NO_VARIANT, said, span=asked.span).at(Severity.ERROR))
            return
        for name in self.plain:
            said = f'"{name}" has no files of variant "{self.variant}": the plain ones are taken'
            self.found.append(finding(NO_VARIANT, said, span=asked.span))
        common = set.intersection(*map(set, self.variants.values())) if self.variants else set()
        for name, have in self.variants.items():
            what = (
                f'neither plain files nor any of variant "{self.variant}"'
                if self.variant
                else "no plain files"
            )
            said = f'"{name}" of {label} has {what}, only of variant {_listed(have)}'
            best = min(common, key=lambda v: (v != "fp16", v), default=None)
            hint = (
                f"--set pipeline.variant={best}, or variant: {best} beside source"
                if best is not None
                else f'diffusers takes one variant for all: rename the files of "{name}" without theirs'
            )
            problem = finding(NO_VARIANT, said, span=asked.span, pointer=asked.pointer, hint=hint)
            self.found.append(problem.at(Severity.ERROR))

    def single(self, place: Place, asked: Asked, label: str, sizes: str) -> Weights | None:
        """The tensors of a single file; None where it is pickled or broken, which is told. ``label`` and
        ``sizes``: the file, and what is not read of it, in words."""
        try:
            if place.readable:
                return file_tensors(place.path, self.dtype)
            check_pickle(place.path)
        except Broken as broken:
            self.broken(broken, asked, label)
            return None
        said = f"{label} is pickled: reading it can run code, and its {sizes} not read"
        self.say(PICKLED, said, asked, "plan apply --allow-pickle reads it, if you trust it")
        return None

    def _single(self, info: ComponentInfo, place: Place, asked: Asked, label: str) -> ComponentInfo:
        found = self.single(place, asked, label, "size is")
        return info if found is None else weighed(info, of_component(found, info.name))

    def _read(
        self, info: ComponentInfo, place: Path, library: str, asked: Asked, label: str
    ) -> ComponentInfo:
        try:
            read = self._weights(info, place, library, asked, label)
        except (Broken, OSError) as broken:
            self.broken(broken, asked, label)
            return info
        if read is None:
            return self._kept(info, None, None, library)
        info = replace(info, quantized=read.quantized, converted=read.converted)
        kept = self._kept(info, read.weights, read.parts, library)
        return replace(kept, bytes=read.blocks.bytes, blocks=read.blocks)

    def _kept(
        self, info: ComponentInfo, weights: Weights | None, parts: tuple[Part, ...] | None, library: str
    ) -> ComponentInfo:
        """With its modules' names, and what its class keeps of them: a model of transformers casts all."""
        keep = [p for cls in info.classes for p in self.classes.kept_in_float32(cls, "float16")]
        skip = [p for cls in info.classes for p in self.classes.skipped_in_casting(cls)]
        known = library == "transformers" or self._known(info)
        return replace(
            info, weights=weights, parts=parts, keeps=(tuple(keep), tuple(skip) if known else None)
        )

    def _known(self, info: ComponentInfo) -> bool:
        return models(self.classes.version).issuperset(info.classes)

    def _weights(
        self, info: ComponentInfo, place: Path, library: str, asked: Asked, label: str
    ) -> _Weighed | None:
        """What is read; None where it was told why nothing is. Raises Broken."""
        if not os.path.isdir(place):
            raise Broken(f'there is no folder "{place.name}"')
        read = stored_tensors(place, library, self.variant)
        if read is None:
            self._unread(info, place, library, asked, label)
            return None
        tensors, of_variant = renamed(read[0], "".join(info.classes[:1])), read[1]
        if self.variant is not None and not of_variant and asked.pointer == PIPELINE:
            self.plain.append(info.name)
        quantized = quantized_by(read_json(place / "config.json", f"{place.name}/config.json"))
        if quantized:
            blocks = blocks_of(tree_of(quantized_sizes(tensors, self.dtype)))
            return _Weighed(blocks=blocks, quantized=quantized)
        known = library in ("diffusers", "transformers") or self._known(info)
        weights, parts, others = self._loaded(info, tensors, known)
        blocks = blocks_of(tree_of(weights))
        return _Weighed(weights=weights, parts=parts, blocks=blocks, converted=others)

    def _loaded(
        self, info: ComponentInfo, tensors: Sequence[Stored], known: bool
    ) -> tuple[Weights, tuple[Part, ...], int]:
        """The tensors and modules that loading makes of what is stored, and how many bytes it converts."""
        keep = [p for cls in info.classes for p in self.classes.kept_in_float32(cls, self.dtype)]
        sizes = dict(cast_sizes(tensors, self.dtype, keep))
        loaded = [(tensor, sizes[tensor.name]) for tensor in tensors if tensor.name in sizes]
        parts = parts_in(loaded, self.dtype, library=known, tied=tied(sizes, info.classes))
        return tuple(sizes.items()), parts, converted(tensors, self.dtype, keep)

    def _unread(self, info: ComponentInfo, place: Path, library: str, asked: Asked, label: str) -> None:
        """Why a folder has no weights that can be read: other variants, pickles, none. Raises Broken."""
        safe, pickled = variants(place, library), pickled_variants(place, library)
        usable = self.variant in pickled or "" in pickled
        if usable and not safe:
            said = f'"{info.name}" has only pickled weights'
        elif usable:
            which = f'its weights of variant "{self.variant}"' if self.variant else "its plain weights"
            said = f'"{info.name}" has {which} only pickled, and others of variant {_listed(safe)}'
        elif safe or pickled:
            self.variants[info.name] = safe or pickled
            return
        elif other := other_format(place):
            raise Broken(f"{place.name} has weights for {other} only", "from_pretrained reads safetensors")
        elif info.name in self.traced:
            return
        else:
            configs = (place / "config.json").is_file()
            mend = f"{AGAIN}; --activations, and plan fit, need its configs alone" if configs else AGAIN
            raise Broken(f"{place.name} has no weight files", mend)
        hint = "plan apply --allow-pickle reads them, if you trust them"
        self.say(PICKLED, said, asked, f"--set pipeline.variant={safe[0]}; {hint}" if safe else hint)


def quantized_by(config: Any) -> str:
    """The method that a ``config.json`` says the weights were quantized by, "" for plain ones."""
    said = config.get("quantization_config") if isinstance(config, dict) else None
    if not said:
        return ""
    method = said.get("quant_method") if isinstance(said, dict) else None
    return method[:40] if isinstance(method, str) and method else "a method that it does not name"


def weighed(info: ComponentInfo, weights: Weights) -> ComponentInfo:
    """A component whose file has names of its own: its bytes are known, its modules are not."""
    blocks = blocks_of(tree_of(weights))
    return replace(info, bytes=blocks.bytes, blocks=blocks)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
