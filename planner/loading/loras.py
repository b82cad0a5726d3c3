"""A plan's LoRAs on a loaded pipeline, scaled, before the plan is applied: so their bytes are counted."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_machine import (
    LOADING_FAILED,
    NO_LORAS,
    PACKAGE_MISSING,
    PICKLED,
    SOURCE_NOT_FOUND,
)
from planner.loading.paths import beside
from planner.loading.pickles import HINT, looks_pickled, may_run, none_read
from planner.plan.model import Lora, Plan


def check_loras(plan: Plan, cls: Any, *, allow_pickle: bool) -> Iterator[Diagnostic]:
    """What is wrong with the plan's LoRAs, before any weight is read. ``cls``: the pipeline's class."""
    if not plan.loras:
        return
    if not hasattr(cls, "load_lora_weights"):
        yield _found(NO_LORAS, plan.loras[0], f"{cls.__name__} takes no LoRAs")
    if find_spec("peft") is None:
        said = 'package "peft" is missing, and LoRAs need it'
        yield _found(PACKAGE_MISSING, plan.loras[0], said, "pip install peft")
    for lora in plan.loras:
        path, name = beside(plan, lora.lora_id), lora.weight_name or lora.lora_id
        file = lora.weight_name is not None or path.is_file() or looks_pickled(name)
        if file and may_run(name) and not allow_pickle:
            yield _found(PICKLED, lora, f'"{Path(name).name}" is pickled, and reading it can run code', HINT)
        elif not path.exists() and (lora.lora_id.count("/") != 1 or lora.lora_id.startswith((".", "/", "~"))):
            yield _found(SOURCE_NOT_FOUND, lora, f'"{lora.lora_id}" is no folder or file here, and no hub id')
        elif path.is_dir() and lora.weight_name and not (path / lora.weight_name).is_file():
            yield _found(SOURCE_NOT_FOUND, lora, f'"{lora.lora_id}" has no file "{lora.weight_name}"')


def load_loras(plan: Plan, pipe: Any, *, allow_pickle: bool) -> None:
    """Loads them by diffusers' own ``load_lora_weights`` and sets their scales.

    Raises PlanError; what a library raised is its ``__cause__``.
    """
    names = []
    for number, lora in enumerate(plan.loras):
        path, name = beside(plan, lora.lora_id), lora.adapter_name or f"lora_{number}"
        folder, file = (path.parent, path.name) if path.is_file() else (path, lora.weight_name)
        more = {"weight_name": file} if file else {}
        try:
            with none_read(allow_pickle):
                pipe.load_lora_weights(
                    str(folder) if folder.exists() else lora.lora_id,
                    adapter_name=name,
                    **({} if allow_pickle else {"use_safetensors": True}),
                    **more,
                )
        except Exception as error:
            line = " ".join(str(error).split())[:200] or type(error).__name__
            problem = _found(LOADING_FAILED, lora, f'"{lora.lora_id}" does not load: {line}')
            raise PlanError([problem], plan.document.sources) from error
        names.append(name)
    if names:
        pipe.set_adapters(names, [lora.lora_scale for lora in plan.loras])


def _found(code: Code, lora: Lora, message: str, hint: str = "") -> Diagnostic:
    return finding(code, message, span=lora.span, hint=hint)
