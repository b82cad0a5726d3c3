"""A plan's target from what the plan names: never from the network, a cache or what is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, Severity, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_target import (
    CLASS_NOT_KNOWN,
    MODULAR,
    NO_CATALOGUE,
    NO_SUCH_SOURCE,
    SIZES_UNKNOWN,
    UNKNOWN_BUILTIN,
    UNKNOWN_CLASS,
)
from planner.source.text import Span
from planner.target import catalogue
from planner.target.auto import is_generic, meant
from planner.target.catalogue import Catalogue, Own
from planner.target.component import PIPELINE, Asked, Given, Reader, weighed
from planner.target.folder import read_folder
from planner.target.index import Index
from planner.target.model import Blocks, Target
from planner.target.place import BUILTIN, Place, place_of
from planner.target.single import by_component

SHOWN = 80
"""Characters of what stands in the place of a class's name."""
NAMELESS = "its __init__ takes no component by name: diffusers registers those that it names"
"""Of a class that was seen."""
SEEN = "a class of your own is seen with --from module:{0}, or in a file that plan catalogue made"


def find_target(
    cls: str,
    source: str | None,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
    requires: str | None = None,
    relative_to: Path | None = None,
    sources: Mapping[str, str] | None = None,
    own: Own = (),
    ordered: bool = False,
    traced: Collection[str] = (),
    span: Span | None = None,
    source_span: Span | None = None,
    spans: Mapping[str, Span] | None = None,
) -> tuple[Target | None, list[Diagnostic]]:
    """The target for class ``cls`` from ``source``: a folder, a single file, ``builtin:NAME``, or a hub id.

    ``relative_to``: the plan's folder; ``requires``: the plan's specifier of diffusers; ``sources``: of
    components that have one of their own; ``span``, ``source_span``, ``spans``: where the plan names the
    class, the source, and those of components; ``own``: catalogues of a user's own classes; ``ordered``: the
    plan says by itself what runs, so that a class which nothing tells of is no error; ``traced``: the
    components whose weights the caller knows from their configs. A hub id, and no
    source, give the class without sizes, and a note. A path that leads nowhere is an error.
    """
    version, admitted = catalogue.pick(requires)
    found = []
    if not admitted:
        said = f"no catalogue for diffusers {requires}: checked against {version}"
        found.append(finding(NO_CATALOGUE, said, span=span))
    given = {
        name: Given(
            place=place_of(text, relative_to, owned=True),
            asked=Asked(span=(spans or {}).get(name, span), pointer=f"/components/{name}/source"),
        )
        for name, text in (sources or {}).items()
    }
    found += [_nowhere(one.place, one.asked) for one in given.values() if one.place.kind == "nothing"]
    classes = Catalogue(version, own)
    asked = Asked(span=source_span or span)
    reader = Reader(dtype=dtype or "float32", variant=variant, classes=classes)
    if source is not None and source.startswith(BUILTIN):
        target, problems = _builtin(source.removeprefix(BUILTIN), cls, dtype, version, source_span)
        return _with(target, reader, given), [*found, *problems, *reader.found]
    place = place_of(source, relative_to, revision) if source is not None else None
    if place is not None and place.kind == "nothing":
        return None, [*found, _nowhere(place, asked)]
    if place is not None and place.kind == "folder":
        target, problems = read_folder(
            place.path,
            cls=cls,
            dtype=dtype,
            variant=variant,
            version=version,
            own_classes=own,
            traced=traced,
            given=given,
            span=asked.span,
            class_span=span,
        )
        target, more = _as(target, cls, classes, span)
    else:
        target, problems = (
            _generic(cls, source, span) if is_generic(cls) else _of(cls, classes, span, ordered)
        )
        target, more = _with(_in_file(target, place, reader, asked), reader, given), reader.found
    found += [*problems, *more]
    if target is not None and not errors(found):
        found += _unsized(target, source, place, given, asked)
    return target, found


def _as(
    target: Target | None, cls: str, classes: Catalogue, span: Span | None
) -> tuple[Target | None, list[Diagnostic]]:
    """A folder's target for a class that the catalogue does not have: somebody's own, for that folder."""
    if target is None or target.cls == cls or is_generic(cls) or classes.find(cls) is not None:
        return target, []
    _, problems = _of(cls, classes, span, ordered=True)
    return replace(target, cls=cls), problems


def _generic(cls: str, source: str | None, span: Span | None) -> tuple[None, list[Diagnostic]]:
    where = f'in "{source}"' if source else "in no source"
    said = f"which pipeline {cls} means is not known here, {where}: names and sizes are not checked"
    return None, [finding(CLASS_NOT_KNOWN, said, span=span, hint="class: the pipeline that it will be")]


def _in_file(target: Target | None, place: Place | None, reader: Reader, asked: Asked) -> Target | None:
    """With the sizes of what a single file holds; the rest of its pipeline comes from elsewhere."""
    if target is None or place is None or place.kind != "file":
        return target
    weights = reader.single(place, asked, f'"{place.source}"', "sizes are")
    if weights is None:
        return target
    held = by_component(weights, target.modules)
    return replace(
        target,
        components={n: weighed(i, held[n]) if n in held else i for n, i in target.components.items()},
    )


def _with(target: Target | None, reader: Reader, given: Mapping[str, Given]) -> Target | None:
    """With the components that have a source of their own."""
    if target is None:
        return None
    components = {
        name: reader.given(info, given[name]) if name in given else info
        for name, info in target.components.items()
    }
    return replace(target, components=components)


def _unsized(
    target: Target, source: str | None, place: Place | None, given: Mapping[str, Given], asked: Asked
) -> list[Diagnostic]:
    """A note on the components whose sizes are not known."""
    needed = [n for n in target.modules if target.components[n].present and not target.components[n].optional]
    unknown = [name for name in (*needed, *given) if name in target.modules]
    unknown = [name for name in dict.fromkeys(unknown) if target.components[name].bytes is None]
    if place is not None and place.kind == "folder":
        unknown = [name for name in unknown if name in given and not given[name].place.here]
    if not unknown:
        return []
    if (place is not None and place.here) or len(unknown) < len(needed):
        listed = ", ".join(f'"{name}"' for name in unknown)
        return [_not_known(f"of {listed}", asked.span)]
    return [_not_known(f'of "{source}"' if source else "without a source", asked.span)]


def _nowhere(place: Place, asked: Asked) -> Diagnostic:
    return finding(NO_SUCH_SOURCE, place.said, span=asked.span, pointer=asked.pointer, hint=place.hint)


def by_class(cls: str, version: str, own: Own = ()) -> tuple[Target | None, list[Diagnostic]]:
    """A class of the catalogues. One that none has is an error when a known name is near, else a warning."""
    return _of(cls, Catalogue(version, own), None, ordered=False)


def _of(
    cls: str, classes: Catalogue, span: Span | None, ordered: bool
) -> tuple[Target | None, list[Diagnostic]]:
    """People have classes of their own: a name near a known one is a slip only where nothing else says what
    it is."""
    target = classes.find(cls)
    if target is not None:
        return target, []
    if cls.endswith(("ModularPipeline", "AutoBlocks")):
        said = f'"{cls}" is a modular pipeline: its components are moved by diffusers\' ComponentsManager'
        return None, [finding(MODULAR, said, span=span, hint="components_manager.enable_auto_cpu_offload()")]
    if not cls.isidentifier():
        shown = cls if len(cls) <= SHOWN else cls[:SHOWN] + "..."
        said = f'"{shown}" is not the name of a class'
        return None, [finding(UNKNOWN_CLASS, said, span=span, hint=_named_so(cls, classes.names()))]
    problem = finding(UNKNOWN_CLASS, f'diffusers {classes.version} has no pipeline class "{cls}"', span=span)
    near = _meant(cls, classes.names())
    problem = replace(problem, hint=f'did you mean "{near}"?' if near else SEEN.format(cls))
    return None, [problem if near and not ordered else problem.at(Severity.WARNING)]


def _named_so(text: str, names: Collection[str]) -> str:
    """What was meant by a text that no class can be called: a hub's id, a path, a call."""
    inside = next((word for word in re.findall(r"\w+", text) if word in names), None)
    near = inside or _meant(re.sub(r"\W", "", text), names)
    if inside is None and re.fullmatch(r"[\w.~-]*[/\\][\w./\\-]*", text):
        return f"pipeline: {{class: DiffusionPipeline, source: {text}}}"
    return f'did you mean "{near}"?' if near else "a class has a name such as FluxPipeline"


def _not_known(where: str, span: Span | None) -> Diagnostic:
    said = f"sizes are not known {where}: whether the plan fits is not checked"
    return finding(SIZES_UNKNOWN, said, span=span)


def _meant(cls: str, names: Iterable[str]) -> str | None:
    """The class that ``cls`` is a slip of. ``MyFluxPipeline`` is none: it is somebody's own class."""
    stems = {_stem(name): name for name in names}
    stem = _stem(cls)
    if stem in stems:
        return stems[stem]
    near = get_close_matches(stem, sorted(stems), n=1, cutoff=0.75)
    if not near or (near[0] in stem and len(stem) - len(near[0]) > 1):
        return None
    return stems[near[0]]


def _stem(cls: str) -> str:
    """What tells pipeline classes apart."""
    return re.sub(r"pip\w*$", "", cls, flags=re.IGNORECASE).casefold() or cls.casefold()


def _builtin(
    name: str, cls: str, dtype: str | None, version: str, span: Span | None
) -> tuple[Target | None, list[Diagnostic]]:
    """A built-in pipeline, as class ``cls`` where that can be loaded from its folder."""
    known = builtins()
    if name not in known:
        said = f'no built-in pipeline "{name}"'
        return None, [
            finding(UNKNOWN_BUILTIN, said, span=span, pointer=PIPELINE, hint=did_you_mean(name, known))
        ]
    sizes = known[name]["components"]
    own, wanted = catalogue.find(known[name]["class"], version), catalogue.find(cls, version)
    if own is None:
        return None, []
    has = {n: i for n, i in own.components.items() if n in sizes or not i.module}
    index = Index(cls=own.cls, entries={n: ("diffusers", "".join(i.classes[:1])) for n, i in has.items()})
    if is_generic(cls):
        wanted = catalogue.find(meant(cls, own.cls) or "", version)
    base = wanted if wanted is not None and index.suits(wanted, own, ()) else own
    reader = Reader(dtype=dtype or "float32", variant=None, classes=Catalogue(version))
    components = {}
    for key, info in base.components.items():
        said = sizes.get(key, {})
        info = replace(info, present=key in has, **_sizes(said.get(reader.dtype)))
        components[key] = reader.built_in(info, said["tensors"], said["buffers"]) if said else info
    return replace(base, components=components, origin="folder"), []


def _sizes(said: Mapping[str, Any] | None) -> dict[str, Any]:
    if said is None:
        return {}
    blocks = Blocks(fixed=said["fixed"], streamable=tuple(said["blocks"]))
    return {"bytes": blocks.bytes, "blocks": blocks}


@cache
def builtins() -> dict[str, Any]:
    """The built-in pipelines: class, and bytes of each component by dtype."""
    text = (resources.files("planner.target") / "data" / "builtins.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
