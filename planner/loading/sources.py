"""Components that are loaded before the pipeline and given to it: those with a source of their own, and those
that are quantized while their weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.version import Version

from planner.diagnostics.diagnostic import Code, Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_machine import (
    HUB_UNREACHABLE,
    LOADING_FAILED,
    PACKAGE_MISSING,
    PICKLED,
    REMOTE_CODE,
    SOURCE_NOT_FOUND,
)
from planner.loading.failure import unreachable
from planner.loading.paths import place
from planner.loading.pickles import HINT, looks_pickled, may_run, refused
from planner.loading.quantize import Ready, only
from planner.loading.trusted import HINT as TRUST
from planner.loading.trusted import Untrusted, class_in
from planner.plan.model import Component, Plan
from planner.quantization.check import rules_of
from planner.session.checks import is_left_in_place
from planner.target.files import variants
from planner.target.place import INDEX


def check_sources(plan: Plan, *, allow_pickle: bool) -> list[Diagnostic]:
    """What is wrong with the components' own sources, before any weight is read.

    A source is a component's folder, a pipeline's folder (its subfolder of that name), a single
    ``.safetensors`` or ``.gguf`` file, or a hub id.
    """
    wanted = [said for said in plan.components.values() if said.source is not None]
    return [p for said in wanted if (p := _problem(plan, said, allow_pickle)) is not None]


def load_components(
    plan: Plan,
    cls: Any,
    where: Path | str,
    arguments: Mapping[str, Any],
    ready: Mapping[str, Ready],
) -> dict[str, Any]:
    """By name, every component with a source of its own and every one of ``ready``, quantized, on the CPU.

    ``cls``, ``where``: the pipeline's; ``arguments``: ``from_pretrained``'s (dtype, variant, revision).
    Raises PlanError; what a library raised is its ``__cause__``.
    """
    own = [said.name for said in plan.components.values() if said.source is not None]
    made = {}
    for name in dict.fromkeys((*own, *ready)):
        try:
            made[name] = _load(plan, name, cls, where, arguments, ready.get(name))
        except Exception as error:
            source = where if name not in own else plan.components[name].source
            line = " ".join(str(error).split())[:200] or type(error).__name__
            problem = _found(LOADING_FAILED, plan, name, f'"{source}" does not load as "{name}": {line}')
            if (file := refused(error)) is not None:
                said = f'"{source}" has weights in "{Path(str(file)).name}", which is pickled'
                problem = _found(PICKLED, plan, name, f"{said}: reading it can run code", HINT)
            elif isinstance(error, Untrusted):
                said = f'"{source}" takes "{name}" from the package "{error}", and importing that runs it'
                problem = _found(REMOTE_CODE, plan, name, said, TRUST)
            elif unreachable(error):
                said = f'"{source}" is not on this machine, and the hub could not be asked'
                problem = _found(HUB_UNREACHABLE, plan, name, said, "a folder as its source needs no network")
            raise PlanError([problem], plan.document.sources) from error
    return made


def place_of(plan: Plan, name: str, where: Path | str) -> tuple[Path | str, str]:
    """The folder, file or hub id that has a component, and its subfolder there; ``where``: the pipeline's."""
    said = plan.components.get(name)
    if said is None or said.source is None:
        return where, name
    found = place(plan, said.source, owned=True)
    if (found.path / INDEX).is_file():
        return found.path, name
    return (found.path if found.here else said.source), ""


def is_absent(cls: Any, name: str, place: Path | str, inside: str, revision: str | None = None) -> bool:
    """Whether the pipeline there has None for a component."""
    return bool(inside) and not (cls.load_config(place, revision=revision).get(name) or [None])[0]


def kind_of(
    cls: Any, name: str, place: Path | str, inside: str, revision: str | None = None, trust: bool = False
) -> Any:
    """The class of a component, by the pipeline's index, else by its config and the pipeline's signature.
    Raises Untrusted for one of another package, unless ``trust``."""
    from diffusers import AutoModel

    if inside:
        library, kind = cls.load_config(place, revision=revision).get(name) or ("", "")
        if not library:
            raise ValueError(f'it has no component "{name}"')
        return class_in(library, kind, trust)
    config = AutoModel.load_config(place, revision=revision)
    if "_class_name" in config:
        return class_in("diffusers", config["_class_name"])
    # transformers' AutoModel would make a whole T5 or CLIP of an encoder's folder.
    said = config.get("architectures") or []
    expected = [
        k for k in cls._get_signature_types().get(name, ()) if k.__module__.startswith("transformers.")
    ]
    named = [k for k in expected if k.__name__ in said] or expected
    return named[0] if named else class_in("transformers", said[0])


def _load(
    plan: Plan, name: str, cls: Any, where: Path | str, arguments: Mapping[str, Any], ready: Ready | None
) -> Any:
    place, inside = place_of(plan, name, where)
    if isinstance(place, Path) and place.is_file():
        return _from_file(plan, name, cls, place, where, arguments)
    revision = arguments.get("revision") if place is where else None
    kind = kind_of(cls, name, place, inside, revision, bool(arguments.get("trust_remote_code")))
    more = {**arguments, "revision": revision, "subfolder": inside, "trust_remote_code": None}
    if isinstance(place, Path) and arguments.get("variant") not in variants(place / inside, ""):
        more["variant"] = None  # the plain files stand in for it, as in the pipeline's own folder
    if kind.__module__.startswith("transformers."):
        key = next(key for key in more if "dtype" in key)
        newer = Version(metadata.version("transformers")) >= Version("4.56")
        more["dtype" if newer else "torch_dtype"] = more.pop(key)
    more = {key: value for key, value in more.items() if value}
    if ready is None:
        return kind.from_pretrained(str(place), **more)
    if ready.device is not None:
        more["device_map"] = {"": ready.device}
    with only(ready.names):
        model = kind.from_pretrained(str(place), quantization_config=ready.config, **more)
    return model if ready.device is None or is_left_in_place(model) else model.to("cpu")


def _from_file(
    plan: Plan, name: str, cls: Any, path: Path, where: Path | str, arguments: Mapping[str, Any]
) -> Any:
    """A file says no class: the pipeline's signature does, where it names one that reads single files. Its
    config is that of the pipeline's folder, where it has one; else diffusers asks the hub."""
    kinds = cls._get_signature_types().get(name, ())
    kind = next((k for k in kinds if hasattr(k, "from_single_file")), None)
    if kind is None:
        raise ValueError(f'{cls.__name__} names no class for "{name}" that reads a single file')
    more = {key: value for key, value in arguments.items() if "dtype" in key}
    if path.suffix == ".gguf":
        import torch
        from diffusers import GGUFQuantizationConfig

        rules = [rule for rule in rules_of(plan, name) if rule.backend == "gguf"]
        asked = rules[0].options.get("compute_dtype") if rules else None
        compute = getattr(torch, asked) if asked else next(iter(more.values()))
        more["quantization_config"] = GGUFQuantizationConfig(compute_dtype=compute)
    if isinstance(where, Path) and (where / name / "config.json").is_file():
        more |= {"config": str(where), "subfolder": name}
    return kind.from_single_file(str(path), **more)


def _problem(plan: Plan, said: Component, allow_pickle: bool) -> Diagnostic | None:
    source = said.source or ""
    found = place(plan, source, owned=True)
    pickled = found.kind == "file" and may_run(source)
    if (pickled or (not found.here and looks_pickled(source))) and not allow_pickle:
        what = f'"{Path(source).name}" is pickled, and reading it can run code'
        return _found(PICKLED, plan, said.name, what, HINT)
    if found.kind == "nothing":
        return _found(SOURCE_NOT_FOUND, plan, said.name, found.said, found.hint)
    if source.endswith(".gguf") and find_spec("gguf") is None:
        what = f'package "gguf" is missing, and "{source}" needs it'
        return _found(PACKAGE_MISSING, plan, said.name, what, "pip install gguf")
    return None


def _found(code: Code, plan: Plan, name: str, message: str, hint: str = "") -> Diagnostic:
    said = plan.components.get(name)
    if said is None or said.source is None:
        span = plan.pipeline.spans.get("source", plan.pipeline.span)
        return finding(code, message, span=span, pointer="/pipeline/source", hint=hint)
    span = said.spans.get("source", said.span)
    return finding(code, message, span=span, pointer=f"/components/{name}/source", hint=hint)
