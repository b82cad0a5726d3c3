"""A pipeline's folder as a target: model_index.json and the headers of its weight files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.table.p3_plan import OTHER_CLASS
from planner.diagnostics.table.p3_target import BROKEN_FOLDER, LACKS_COMPONENT, MODULAR, UNKNOWN_CLASS
from planner.source.text import Span
from planner.target import catalogue
from planner.target.auto import is_generic, meant
from planner.target.catalogue import Catalogue, Own
from planner.target.causes import AGAIN, Broken
from planner.target.component import Asked, Given, Reader
from planner.target.index import MODULAR_INDEX, Index, read_index
from planner.target.model import ComponentInfo, Target
from planner.target.place import INDEX

_WEIGHTLESS = re.compile(r".*(Tokenizer|Processor|Scheduler|Extractor)(Fast|Pil)?")


def read_folder(
    folder: Path,
    *,
    cls: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    version: str | None = None,
    own_classes: Own = (),
    traced: Collection[str] = (),
    given: Mapping[str, Given] | None = None,
    span: Span | None = None,
    class_span: Span | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The pipeline in ``folder`` as loading with ``dtype`` (float32) and ``variant`` would have it.

    ``cls``: the class to load it as, its own when None or generic; many classes read each other's folders
    (text to image and image to image), and one that this folder cannot be loaded as is an error. ``given``:
    the components that have a source of their own, which are read too; ``own_classes``: catalogues of a
    user's own; ``traced``: the components that may have no files, since the caller knows their weights;
    ``span``, ``class_span``: where a plan names the folder and the class. Raises nothing.
    """
    given, asked = given or {}, Asked(span=span)
    classes = Catalogue(version or catalogue.versions()[0], own_classes)
    try:
        index = read_index(folder)
    except Broken as broken:
        if (folder / MODULAR_INDEX).is_file():
            said = f'"{folder.name}" holds a modular pipeline, which diffusers\' ComponentsManager moves'
            hint = "components_manager.enable_auto_cpu_offload()"
            return None, [finding(MODULAR, said, span=span, hint=hint)]
        said, mend = f'"{folder.name}": {broken}', broken.mend
        return None, [finding(BROKEN_FOLDER, said, span=span, pointer=asked.pointer, hint=mend)]
    wanted, found = _class(folder, index, cls, classes, class_span or span)
    own = classes.find(index.cls)
    if own is not None:
        found += _odd(folder, index, own, given, span)
    if wanted is not None:
        found += _differs(folder, index, wanted, own, given, span, class_span or span)
    reader = Reader(dtype=dtype or "float32", variant=variant, classes=classes, traced=traced, found=found)
    known = wanted if wanted is not None and index.suits(wanted, own, given) else own
    components = _components(reader, folder, index, known, given, asked)
    sized = [name for name, info in components.items() if info.bytes is not None and name not in given]
    reader.judge_variants(sized, f'"{folder.name}"', asked)
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


def _class(
    folder: Path, index: Index, cls: str | None, classes: Catalogue, span: Span | None
) -> tuple[Target | None, list[Diagnostic]]:
    """The class to load the folder as, as far as the catalogue has it."""
    if cls is not None and not is_generic(cls):
        wanted = classes.find(cls)
        if wanted is not None or cls == index.cls or classes.find(index.cls) is not None:
            return wanted, []
        cls = None
    name = index.cls if cls is None else meant(cls, index.cls)
    if name is None:
        said = f'"{folder.name}" holds a "{index.cls}", and {cls} has no class for it'
        hint = f"class: {index.cls}"
        return None, [finding(OTHER_CLASS, said, span=span, pointer="/pipeline/class", hint=hint)]
    known = classes.find(name)
    if known is not None:
        return known, []
    said = f'"{folder.name}" holds a "{index.cls}", which diffusers {classes.version} does not have'
    return None, [finding(UNKNOWN_CLASS, said, span=span).at(Severity.WARNING)]


def _odd(
    folder: Path, index: Index, own: Target, given: Collection[str], span: Span | None
) -> list[Diagnostic]:
    """Entries of components that may be left out, and that are neither left out nor there."""
    return [
        finding(
            BROKEN_FOLDER,
            f'"{folder.name}": "{name}" of {INDEX} is {json.dumps(value)[:40]}, expected [library, class]',
            span=span,
            pointer="/pipeline/source",
            hint=f"[null, null] for none; else {AGAIN}",
        )
        for name, value in index.others.items()
        if name in own.components and own.components[name].optional and name not in given
    ]


def _differs(
    folder: Path,
    index: Index,
    wanted: Target,
    own: Target | None,
    given: Collection[str],
    span: Span | None,
    class_span: Span | None,
) -> list[Diagnostic]:
    """What keeps the folder from being loaded as ``wanted``: what it lacks, and models of other classes."""
    lacks, foreign = index.lacks(wanted, own, given), index.foreign(wanted, own, given)
    said = f'"{folder.name}" holds a "{index.cls}"'
    if foreign:
        listed = ", ".join(f'"{name}" is a {cls}' for name, cls in foreign.items())
        lacking = f", and it has no {_listed(lacks)}" if lacks else ""
        problem = finding(
            OTHER_CLASS,
            f"{said}, and the plan is for {wanted.cls}: {listed}{lacking}",
            span=class_span,
            pointer="/pipeline/class",
            hint=f"class: {index.cls}",
        )
        return [problem]
    if not lacks:
        return []
    sources = ", ".join(f"components.{name}.source" for name in lacks)
    if wanted.cls == index.cls:
        return [
            finding(
                BROKEN_FOLDER,
                f'"{folder.name}": {INDEX} has no "{name}", which {wanted.cls} needs',
                span=span,
                pointer="/pipeline/source",
                hint=f"{AGAIN}, or bring it from elsewhere: components.{name}.source: FOLDER",
            )
            for name in lacks
        ]
    problem = finding(
        LACKS_COMPONENT,
        f"{said}, which has no {_listed(lacks)} that {wanted.cls} needs",
        span=span,
        pointer="/pipeline/source",
        hint=f"{sources}: FOLDER brings {'it' if len(lacks) == 1 else 'them'} from elsewhere; "
        f"else class: {index.cls}",
    )
    return [problem]


def _components(
    reader: Reader,
    folder: Path,
    index: Index,
    known: Target | None,
    given: Mapping[str, Given],
    asked: Asked,
) -> dict[str, ComponentInfo]:
    """Those of the class in its constructor's order; of an unknown class those of the index."""
    made = {}
    for name in index.entries if known is None else known.components:
        library, cls = index.entries.get(name, (None, None))
        info = _info(name, cls, known)
        if name in given:
            info = reader.given(info, given[name])
        elif info.present:
            reader.trust(name, library or "", asked, f'"{folder.name}"')
            info = reader.inside(info, folder, library or "", asked) if info.module else info
        made[name] = info
    return made


def _info(name: str, cls: str | None, known: Target | None) -> ComponentInfo:
    """A component by its index entry. ``known`` knows what has weights, else its class's name tells."""
    expected = known.components.get(name) if known else None
    if expected is not None:
        return replace(expected, classes=(cls,) if cls else expected.classes, present=cls is not None)
    module = cls is not None and not _WEIGHTLESS.fullmatch(cls)
    return ComponentInfo(name=name, classes=(cls,) if cls else (), module=module, present=cls is not None)


def _listed(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
