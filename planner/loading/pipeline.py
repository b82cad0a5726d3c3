"""A plan's pipeline, loaded: a folder, a single file, a hub id or a built-in one, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_plan import UNKNOWN_COMPONENT
from planner.diagnostics.table.p9_machine import (
    CLASS_DIFFERS,
    CLASS_NOT_INSTALLED,
    NO_SOURCE,
    PACKAGE_MISSING,
    PICKLED,
    SOURCE_NOT_FOUND,
)
from planner.loading.builtin import builtin_folder, dtype_argument, quiet
from planner.loading.direct import Bar, load_in, no_bar
from planner.loading.failure import explain
from planner.loading.loras import check_loras, load_loras
from planner.loading.packages import require
from planner.loading.paths import place
from planner.loading.pickles import HINT, may_run, none_read
from planner.loading.quantize import built, finish, prepare
from planner.loading.ram import check_ram
from planner.loading.sources import check_sources, is_absent, kind_of, load_components, place_of
from planner.loading.trusted import check_index
from planner.plan.model import Plan, QuantizationRule
from planner.target.auto import is_generic, meant
from planner.target.place import BUILTIN


def load_pipeline(
    plan: Plan,
    *,
    cls: Any = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    device_type: str | None = None,
    read: bool = True,
    bar: Bar = no_bar,
) -> Any:
    """The pipeline that ``plan`` names, loaded in the plan's dtype (float32 when left out).

    ``cls``: the class to load it as, where it is none of diffusers'. Only safetensors are read unless
    ``allow_pickle``; code in the source runs only with
    ``trust_remote_code``. Components with a source of their own come from there, and LoRAs are loaded and
    scaled. The modules that quantization rules take are quantized, as far as that lasts: layerwise_cast is
    done, and undone, by the session. ``device_type``: of the device that the plan will be applied on, where
    it was chosen already. Everything that can be checked is, before any weight is read, and none is left in a
    mapped file that is not quantized, but without ``read``. Raises PlanError; what diffusers raised is its
    ``__cause__``.
    """
    require()
    if plan.pipeline.source is None:
        raise PlanError([_no_source(plan)], plan.document.sources)
    with quiet():  # importing a pipeline says which image library it falls back to
        cls = cls or class_of(plan, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    problems = [*check_loras(plan, cls, allow_pickle=allow_pickle)]
    if problems := problems + check_sources(plan, allow_pickle=allow_pickle):
        raise PlanError(problems, plan.document.sources)
    where, single = _where(plan, allow_pickle)
    if problems := [*check_ram(plan)]:
        raise PlanError(problems, plan.document.sources)
    arguments = _arguments(plan, allow_pickle, trust_remote_code)
    load = cls.from_single_file if single else cls.from_pretrained
    try:
        with quiet() if _builtin(plan) else nullcontext(), none_read(allow_pickle):
            _check_packages(plan, cls, where, single, trust_remote_code)
            plan = plan if single else _without_absent(plan, cls, where)
            if problems := [*_missing(plan, cls, where, single)]:
                raise PlanError(problems, plan.document.sources)
            models = _models(plan, cls, where, single, trust_remote_code)
            ready = prepare(plan, models, device_type)
            components = load_components(plan, cls, where, arguments, ready)
            if single:
                arguments = {
                    key: arguments[key] for key in arguments if key in (dtype_argument(), "revision")
                }
            pipe = load(str(where), **arguments, **components)
    except PlanError:
        raise
    except Exception as error:
        found = explain(error, plan, where if isinstance(where, Path) else None)
        raise PlanError([found], plan.document.sources) from error
    if read:
        load_in(plan, pipe, bar)
    finish(plan, pipe, ready)
    load_loras(plan, pipe, allow_pickle=allow_pickle)
    return pipe


def _missing(plan: Plan, cls: Any, where: Path | str, single: bool) -> Iterator[Diagnostic]:
    """Components that the class needs and the folder lacks: diffusers says so after reading all others."""
    if single or not isinstance(where, Path) or not (where / "model_index.json").is_file():
        return
    index = cls.load_config(where)
    needed, _ = cls._get_signature_keys(cls)
    own = {name for name, said in plan.components.items() if said.source is not None}
    if lacks := sorted(needed - index.keys() - own - set(cls._optional_components)):
        listed = ", ".join(f'"{name}"' for name in lacks)
        said = f'"{plan.pipeline.source}" lacks components of {cls.__name__}: {listed}'
        if (held := index.get("_class_name")) not in (None, cls.__name__):
            said += f"; it holds a {held}"
        hint = f"components: {{{lacks[0]}: {{source: FOLDER}}}} brings one from elsewhere"
        span = plan.pipeline.span
        yield finding(CLASS_DIFFERS, said, span=span, pointer="/pipeline", hint=hint)


def _check_packages(plan: Plan, cls: Any, where: Path | str, single: bool, trust: bool) -> None:
    """Raises Untrusted where the index takes a component that is loaded from another package."""
    if single:
        return
    index = cls.load_config(where, revision=plan.pipeline.revision)
    taken = set(cls._get_signature_keys(cls)[0]) or {name for name in index if not name.startswith("_")}
    own = {name for name, said in plan.components.items() if said.source is not None}
    check_index(index, sorted(taken - own), trust)


def _without_absent(plan: Plan, cls: Any, where: Path | str) -> Plan:
    """Without the rules that may take nothing, of components that are None."""

    def matters(rule: QuantizationRule) -> bool:
        at, inside = place_of(plan, rule.component, where)
        revision = plan.pipeline.revision if at is where else None
        return rule.required or not is_absent(cls, rule.component, at, inside, revision)

    return replace(plan, quantization=tuple(filter(matters, plan.quantization)))


def _models(plan: Plan, cls: Any, where: Path | str, single: bool, trust: bool) -> dict[str, Any]:
    """The components that have rules, built without weights; none for what a single file holds."""
    known = cls._get_signature_types()
    if unknown := [rule for rule in plan.quantization if rule.component not in known]:
        said = f'{cls.__name__} has no component "{unknown[0].component}"'
        hint = did_you_mean(unknown[0].component, known)
        problem = finding(UNKNOWN_COMPONENT, said, span=unknown[0].spans["component"], hint=hint)
        raise PlanError([problem], plan.document.sources)
    found = {}
    for name in dict.fromkeys(rule.component for rule in plan.quantization):
        at, inside = place_of(plan, name, where)
        if not (single and at is where) and not Path(at).is_file():
            revision = plan.pipeline.revision if at is where else None
            kind = kind_of(cls, name, at, inside, revision, trust)
            found[name] = built(kind, at, inside, revision)
    return found


def _no_source(plan: Plan) -> Diagnostic:
    said = f'the plan has no source for "{plan.pipeline.cls}", so there is nothing to load'
    hint = "write pipeline.source, or give a loaded pipeline with --from module:function"
    return finding(NO_SOURCE, said, span=plan.pipeline.span, pointer="/pipeline", hint=hint)


def class_of(plan: Plan, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> Any:
    """The class that the plan names, as it is installed; of a generic one the class that its source says.
    Raises PlanError."""
    return _class(plan, _named(plan, allow_pickle, trust_remote_code))


def _class(plan: Plan, name: str) -> Any:
    import diffusers

    found = getattr(diffusers, name, None) if name in dir(diffusers) else None
    if isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline):
        return found
    if missing := [b for b in getattr(found, "_backends", ()) if find_spec(b) is None]:
        # diffusers puts a stand-in where a pipeline's own packages are not installed.
        raise PlanError([_packages(plan, missing)], plan.document.sources)
    said = f'diffusers {diffusers.__version__} has no pipeline class "{name}"'
    near = get_close_matches(name, [n for n in dir(diffusers) if n.endswith("Pipeline")], n=1)
    hint = f'did you mean "{near[0]}"?' if near else "--from module:Class brings a class of your own"
    problem = finding(CLASS_NOT_INSTALLED, said, span=plan.pipeline.span, pointer="/pipeline", hint=hint)
    raise PlanError([problem], plan.document.sources)


def _named(plan: Plan, allow_pickle: bool, trust_remote_code: bool) -> str:
    """The plan's class, or the one that a generic class means: the source says which."""
    cls = plan.pipeline.cls
    if not is_generic(cls):
        return cls
    from diffusers import DiffusionPipeline

    where, single = _where(plan, allow_pickle)
    said = f"a single file does not say which pipeline {cls} means"
    hint = "class: the pipeline that it is for"
    if not single:
        try:
            index = DiffusionPipeline.load_config(where, revision=plan.pipeline.revision)
        except Exception as error:
            found = explain(error, plan, where if isinstance(where, Path) else None)
            raise PlanError([found], plan.document.sources) from error
        own = index.get("_class_name")
        if isinstance(own, list) and trust_remote_code:
            return str(DiffusionPipeline.__name__)  # which takes the class from the source's own code
        own = str(own[-1] if isinstance(own, list) and own else own)
        if (name := meant(cls, own)) is not None:
            return name
        said = f'"{plan.pipeline.source}" holds a "{own}", and {cls} has no class for it'
        hint = f"class: {own}"
    problem = finding(CLASS_DIFFERS, said, span=plan.pipeline.span, pointer="/pipeline", hint=hint)
    raise PlanError([problem], plan.document.sources)


def _packages(plan: Plan, missing: list[str]) -> Diagnostic:
    listed = ", ".join(f'"{name}"' for name in missing)
    said = f'"{plan.pipeline.cls}" needs packages that are not installed: {listed}'
    hint = f"pip install {' '.join(missing)}"
    return finding(PACKAGE_MISSING, said, span=plan.pipeline.span, pointer="/pipeline", hint=hint)


def _where(plan: Plan, allow_pickle: bool) -> tuple[Path | str, bool]:
    """A folder, a file (True) or a hub id. What is on this disk comes first, as for diffusers."""
    source = plan.pipeline.source or ""
    span = plan.pipeline.spans.get("source", plan.pipeline.span)
    if source.startswith(BUILTIN):
        return builtin_folder(source.removeprefix(BUILTIN), span), False
    found = place(plan, source, plan.pipeline.revision)
    if found.kind == "hub":
        return source, False
    if found.kind == "file" and may_run(found.path.name) and not allow_pickle:
        raise PlanError([_pickled(plan, found.path.name)], plan.document.sources)
    if found.here:
        return found.path, found.kind == "file"
    problem = finding(SOURCE_NOT_FOUND, found.said, span=span, pointer="/pipeline/source", hint=found.hint)
    raise PlanError([problem], plan.document.sources)


def _pickled(plan: Plan, name: str) -> Diagnostic:
    span = plan.pipeline.spans.get("source", plan.pipeline.span)
    said = f'"{name}" is pickled, and reading it can run code'
    return finding(PICKLED, said, span=span, pointer="/pipeline/source", hint=HINT)


def _arguments(plan: Plan, allow_pickle: bool, trust_remote_code: bool) -> dict[str, Any]:
    import torch

    made: dict[str, Any] = {dtype_argument(): getattr(torch, plan.pipeline.dtype or "float32")}
    if plan.pipeline.variant is not None:
        made["variant"] = plan.pipeline.variant
    if plan.pipeline.revision is not None:
        made["revision"] = plan.pipeline.revision
    if not allow_pickle:
        made["use_safetensors"] = True
    if trust_remote_code:
        made["trust_remote_code"] = True
    return made


def _builtin(plan: Plan) -> bool:
    return (plan.pipeline.source or "").startswith(BUILTIN)
