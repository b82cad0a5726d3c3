"""Pipelines without weights: modules from their configs, on the meta device."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import NO_SOURCE, SOURCE_DAMAGED, SOURCE_NOT_FOUND
from planner.loading.builtin import builtin_folder, quiet
from planner.loading.failure import explain
from planner.loading.hub_cache import cached
from planner.loading.paths import place
from planner.plan.model import Plan
from planner.session.vae_options import has_option, set_option
from planner.target.auto import is_generic, meant
from planner.target.place import BUILTIN
from planner.tracing.stand_ins import StandInTokenizer

if TYPE_CHECKING:
    from planner.tracing.forms import Form

CONFIGS = ("config.json", "scheduler_config.json", "preprocessor_config.json", "tokenizer_config.json")
CLIP_LENGTH, OTHER_LENGTH = 77, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A component: ``cls`` of ``library`` (a package's name, or a module's) and its ``config``; ``folder``:
    where files of a tokenizer or processor lie; ``dtype``: a torch dtype's name, None for the plan's."""

    library: str
    cls: str
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hollow:
    """``pipe``: on the meta device, to be traced with ``dtypes`` (torch dtypes by component) and ``forms``
    (by component and path of a layer, how its weights are stored)."""

    pipe: Any
    dtypes: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    forms: Mapping[str, Mapping[str, Form]] = field(default_factory=dict)


def parts_of(folder: Path) -> tuple[str, dict[str, Part], dict[str, Any]]:
    """Class, components and other values of ``model_index.json``, with their configs. No torch.

    Raises PlanError where there is no such file, and for one that is damaged.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        cls = str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f'no configs of a pipeline in "{folder}"'
        raise PlanError([finding(SOURCE_NOT_FOUND, said)]) from error
    parts, more = {}, {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
            at = folder / name
            parts[name] = Part(library=value[0], cls=value[1], config=_config(at), folder=at)
        elif not isinstance(value, list):
            more[name] = value
    return cls, parts, more


def _config(folder: Path) -> dict[str, Any]:
    for name in CONFIGS:
        if (folder / name).is_file():
            try:
                return dict(json.loads((folder / name).read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                said = f'"{folder / name}" is damaged: {error}'
                raise PlanError([finding(SOURCE_DAMAGED, said)]) from error
    return {}


def hollow(plan: Plan, *, folder: Path | None = None) -> Hollow:
    """The pipeline of ``plan`` without weights: from ``folder``, or the plan's source.

    In the plan's dtype, with the tiling and slicing that it says. Raises PlanError where there are no configs
    (a single file has none; a repository of the hub has them once it was downloaded), and where the pipeline
    cannot be made of them.
    """
    cls, parts, more = parts_of(folder or source_of(plan))
    wanted = plan.pipeline.cls
    name = (meant(wanted, cls) or cls) if is_generic(wanted) else wanted
    try:
        made = built(name, parts, more, plan.pipeline.dtype or "float32")
    except Exception as error:  # whatever constructors of other packages raise
        raise PlanError([explain(error, plan, None)], plan.document.sources) from error
    notes = list(made.notes)
    for name, said in plan.components.items():
        part: Any = getattr(made.pipe, name, None)
        for option, on in said.vae_options.items():
            if has_option(part, option):
                set_option(part, option, on)
    forms, said_of_them = _forms(plan, made.pipe)
    notes += said_of_them
    notes += ["LoRAs are not traced"] if plan.loras else []
    own = sorted(name for name, said in plan.components.items() if said.source is not None)
    notes += [f"{name}: traced as the pipeline's own, its source's config is not read" for name in own]
    return Hollow(pipe=made.pipe, dtypes=made.dtypes, notes=tuple(notes), forms=forms)


def _forms(plan: Plan, pipe: Any) -> tuple[Mapping[str, Mapping[str, Form]], list[str]]:
    from planner.tracing.forms import forms_of

    return forms_of(plan, pipe)


DOWNLOADED = "--include '*.json' '*.txt' '*.model'"
"""Of a repository, a few MB: what a pipeline on the meta device is made from."""


def source_of(plan: Plan) -> Path:
    """The folder with the configs of a plan's source; of a hub id that was downloaded, in the hub's cache.
    Raises PlanError."""
    source, span = plan.pipeline.source, plan.pipeline.spans.get("source", plan.pipeline.span)
    if source is None:
        said = "the plan names no source, so there are no configs"
        hint = "--set pipeline.source=FOLDER, or the hub id of a model whose sizes ship"
        raise PlanError([finding(NO_SOURCE, said, span=span, hint=hint)])
    if source.startswith(BUILTIN):
        return builtin_folder(source.removeprefix(BUILTIN), span)
    found = place(plan, source, plan.pipeline.revision)
    if found.here and found.kind != "file":
        return found.path
    if (there := cached(source, plan.pipeline.revision)) is not None:
        return there[0]
    said = "a single file holds no configs" if found.here else found.said or f'no configs of "{source}" here'
    hint = found.hint or (f"hf download {source} {DOWNLOADED}" if found.kind == "hub" else "")
    problem = finding(SOURCE_NOT_FOUND, said, span=span, pointer="/pipeline/source", hint=hint)
    raise PlanError([problem], plan.document.sources)


def built(cls: str, parts: Mapping[str, Part], more: Mapping[str, Any], dtype: str = "float32") -> Hollow:
    """``cls`` of diffusers with ``parts``, its modules on the meta device; ``more``: other arguments of its
    constructor; ``dtype``: of parts that say none."""
    import torch

    with quiet():
        pipeline = getattr(import_module("diffusers"), cls)
        names = inspect.signature(pipeline.__init__).parameters
        made: dict[str, Any] = {}
        dtypes: dict[str, Any] = {}
        notes: list[str] = []
        for name, part in parts.items():
            if name not in names:
                continue
            made[name] = _made(name, part, notes)
            if isinstance(made[name], torch.nn.Module):
                dtypes[name] = getattr(torch, part.dtype or dtype)
        for name, parameter in names.items():
            if name not in ("self", "kwargs") and name not in made:
                if name in more:
                    made[name] = more[name]
                elif parameter.default is parameter.empty:
                    made[name] = None
        pipe = pipeline(**made)
    pipe.set_progress_bar_config(disable=True)
    return Hollow(pipe=pipe, dtypes=dtypes, notes=tuple(notes))


def _made(name: str, part: Part, notes: list[str]) -> Any:
    from planner.tracing.modules import uninitialised

    cls: Any = _class(part)
    if cls is None:
        return None
    import torch

    if torch.nn.Module in cls.__mro__:
        with uninitialised():
            if (config := getattr(cls, "config_class", None)) is not None:
                return cls(config.from_dict(dict(part.config))).eval()
            return cls.from_config(dict(part.config)).eval()
    if hasattr(cls, "from_config"):
        return cls.from_config(dict(part.config))
    if part.folder is not None and _has_files(cls, part.folder):
        try:
            return cls.from_pretrained(str(part.folder))
        except Exception as error:  # only configs are there
            notes.append(f"{name}: {type(error).__name__} while reading it; a stand-in was taken")
    if "Tokenizer" in part.cls:
        clip = "CLIP" in part.cls
        length = int(part.config.get("model_max_length", CLIP_LENGTH if clip else OTHER_LENGTH))
        notes.append(f"{name}: a token for each word, its vocabulary is not here")
        return StandInTokenizer(min(length, 4096), int(part.config.get("end", 2)))
    return cls()


def _has_files(cls: Any, folder: Path) -> bool:
    """Whether ``cls`` can be read from ``folder``: a tokenizer without its vocabulary is made all the same,
    with one of a few words."""
    if not folder.is_dir():
        return False
    vocabulary = {*(getattr(cls, "vocab_files_names", None) or {}).values()}
    return any(path.name in vocabulary or not vocabulary for path in folder.iterdir())


def _class(part: Part) -> Any:
    if part.library in ("diffusers", "transformers"):
        return getattr(import_module(part.library), part.cls)
    for module in (part.library, f"diffusers.pipelines.{part.library}"):
        try:
            found = getattr(import_module(module), part.cls, None)
        except ImportError:
            continue
        if found is not None:
            return found
    return None
