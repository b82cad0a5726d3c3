"""Components with a source of their own: loaded before the pipeline, and given to it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_machine import LOADING_FAILED, PACKAGE_MISSING, PICKLED, SOURCE_NOT_FOUND
from planner.loading.paths import PICKLES, beside
from planner.plan.model import Component, Plan


def own_components(plan: Plan, cls: Any, arguments: dict[str, Any], *, allow_pickle: bool) -> dict[str, Any]:
    """By name, every component of ``plan`` that has a ``source``, loaded with ``arguments`` (dtype, variant).

    A source is a component's folder, a pipeline's folder (its subfolder of that name), a single
    ``.safetensors`` or ``.gguf`` file, or a hub id. ``cls``: the pipeline's class. Raises PlanError with
    all that is wrong before any weight is read; what a library raised is its ``__cause__``.
    """
    wanted = [said for said in plan.components.values() if said.source is not None]
    problems = [p for said in wanted if (p := _problem(plan, said, allow_pickle)) is not None]
    if problems:
        raise PlanError(problems, plan.document.sources)
    return {said.name: _loaded(plan, said, cls, arguments) for said in wanted}


def _problem(plan: Plan, said: Component, allow_pickle: bool) -> Diagnostic | None:
    source = said.source or ""
    path = beside(plan, source)
    if source.endswith(PICKLES) and not allow_pickle:
        hint = "--allow-pickle, or allow_pickle=True, if you trust it"
        return _found(PICKLED, said, f'"{Path(source).name}" is pickled, and reading it can run code', hint)
    if source.endswith(".gguf") and find_spec("gguf") is None:
        what = f'package "gguf" is missing, and "{source}" needs it'
        return _found(PACKAGE_MISSING, said, what, "pip install gguf")
    if path.exists() or (source.count("/") == 1 and not source.startswith((".", "/", "~"))):
        return None
    return _found(SOURCE_NOT_FOUND, said, f'the source "{source}" is no folder or file here, and no hub id')


def _loaded(plan: Plan, said: Component, cls: Any, arguments: dict[str, Any]) -> Any:
    path = beside(plan, said.source or "")
    try:
        if path.is_file():
            return _from_file(said, cls, path, arguments)
        from diffusers import AutoModel

        inside = {"subfolder": said.name} if (path / "model_index.json").is_file() else {}
        return AutoModel.from_pretrained(str(path) if path.is_dir() else said.source, **inside, **arguments)
    except Exception as error:
        line = " ".join(str(error).split())[:200] or type(error).__name__
        problem = _found(LOADING_FAILED, said, f'"{said.source}" does not load as "{said.name}": {line}')
        raise PlanError([problem], plan.document.sources) from error


def _from_file(said: Component, cls: Any, path: Path, arguments: dict[str, Any]) -> Any:
    """A file says no class: the pipeline's signature does, where it names one that reads single files."""
    kinds = cls._get_signature_types().get(said.name, ())
    kind = next((k for k in kinds if hasattr(k, "from_single_file")), None)
    if kind is None:
        raise ValueError(f'{cls.__name__} names no class for "{said.name}" that reads a single file')
    more = {key: value for key, value in arguments.items() if "dtype" in key}
    if path.suffix == ".gguf":
        from diffusers import GGUFQuantizationConfig

        more["quantization_config"] = GGUFQuantizationConfig(compute_dtype=next(iter(more.values())))
    return kind.from_single_file(str(path), **more)


def _found(code: Any, said: Component, message: str, hint: str = "") -> Diagnostic:
    span = said.spans.get("source", said.span)
    return finding(code, message, span=span, pointer=f"/components/{said.name}/source", hint=hint)
