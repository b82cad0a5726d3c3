"""Before anything is touched: is this the pipeline that was planned, and may a plan move it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch
from packaging.version import Version

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_plan import UNKNOWN_ENTRY
from planner.diagnostics.table.p7_session import (
    COMPONENT_MISSING,
    DEVICE_MAPPED,
    DTYPE_DIFFERS,
    EXCLUDED_BY_PIPELINE,
    GROUP_OFFLOADED,
    MODULAR_PIPELINE,
    NOT_A_PIPELINE,
    NOT_USED_HERE,
    SHARED_COMPONENT,
    TENSOR_PARALLEL,
)
from planner.host.unread import unread_bytes
from planner.plan.model import Name, Plan, Use
from planner.session.ram import short_of_memory
from planner.session.states import device_of_module
from planner.session.vae_options import lacking
from planner.session.versions import version_notes
from planner.target.loaded import components_of, known_class
from planner.target.walks import callable_at


def check_pipeline(
    plan: Plan, pipe: Any, device: Device | None = None, *, loaded_by_us: bool = False
) -> tuple[Diagnostic, ...]:
    """Everything that speaks against applying ``plan`` to ``pipe`` on ``device``. Changes nothing."""
    kind = _kind(pipe)
    if kind:
        return (kind,)
    found = [*_placement(pipe), *_named(plan, pipe), *_dtype(plan, pipe)]
    found += (
        one for name, said in plan.components.items() for one in lacking(said, pipe.components.get(name))
    )
    found += [*_entries(plan, pipe), *_shared(pipe, device), *version_notes(plan, type(pipe).__name__)]
    found += short_of_memory(plan, unread_bytes(modules_of(pipe)))
    if not loaded_by_us:
        found += _unused(plan)
    return tuple(found)


def excluded_by(pipe: Any, plan: Plan) -> tuple[Plan, tuple[Diagnostic, ...]]:
    """``plan`` with ``exclude`` for the components that the pipeline itself was told to leave out, by
    ``_exclude_from_cpu_offload`` on the instance, as far as the plan does not name them; with a note."""
    said = {n.name for n in plan.exclude} | {*plan.components}
    pending = [*(plan.stages or ())]
    for stage in pending:
        pending += stage.stages
        said |= {use.component for use in stage.runs}
    told = [name for name in pipe.__dict__.get("_exclude_from_cpu_offload", ()) if name in modules_of(pipe)]
    if not (names := [name for name in dict.fromkeys(told) if name not in said]):
        return plan, ()
    more = tuple(Name(name=name, span=plan.span) for name in names)
    note = finding(EXCLUDED_BY_PIPELINE, f"excluded by the pipeline's own setting: {', '.join(names)}")
    return replace(plan, exclude=(*plan.exclude, *more)), (note,)


def modules_of(pipe: Any) -> dict[str, torch.nn.Module]:
    """The components with weights, each module once, under its first name."""
    named: dict[str, torch.nn.Module] = {}
    seen: set[int] = set()
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and id(component) not in seen:
            seen.add(id(component))
            named[name] = component
    return named


def is_left_in_place(module: torch.nn.Module) -> bool:
    """8-bit bitsandbytes that cannot be moved, by the versions that diffusers decides with."""
    from diffusers.pipelines.pipeline_utils import _check_bnb_status

    _, _, is_8bit = _check_bnb_status(module)
    return bool(is_8bit) and (_older("transformers", "4.58.0") or _older("bitsandbytes", "0.48.0"))


def _older(package: str, version: str) -> bool:
    try:
        return Version(metadata.version(package)) < Version(version)
    except metadata.PackageNotFoundError:
        return False


def _kind(pipe: Any) -> Diagnostic | None:
    if any(cls.__name__ == "ModularPipeline" for cls in type(pipe).__mro__):
        return finding(
            MODULAR_PIPELINE,
            f'"{type(pipe).__name__}" is a modular pipeline; its ComponentsManager moves its components',
            hint="components_manager.enable_auto_cpu_offload()",
        )
    try:
        components_of(pipe)
    except PlanError as error:
        return error.first
    except AttributeError:
        pass
    else:
        if callable(pipe):
            return None
    return finding(NOT_A_PIPELINE, f'expected a loaded diffusers pipeline, found "{type(pipe).__name__}"')


def _placement(pipe: Any) -> Iterator[Diagnostic]:
    maps = {"the pipeline": getattr(pipe, "hf_device_map", None)}
    for name, module in modules_of(pipe).items():
        maps[f'component "{name}"'] = getattr(module, "hf_device_map", None)
    for what, found in maps.items():
        if isinstance(found, dict) and len(found) > 1:
            yield finding(
                DEVICE_MAPPED,
                f"{what} has an active device map over {', '.join(sorted({str(d) for d in found.values()}))}",
                hint="call pipe.reset_device_map() first",
            )
    for name, module in modules_of(pipe).items():
        if _group_offloaded(module):
            yield finding(
                GROUP_OFFLOADED,
                f'component "{name}" is under group offloading',
                hint="load the pipeline again without enable_group_offload",
            )
        if any(type(p).__name__ == "DTensor" for p in module.parameters()):
            yield finding(
                TENSOR_PARALLEL,
                f'component "{name}" is sharded with tensor parallelism',
                hint="load it without tensor parallelism",
            )


def _group_offloaded(module: torch.nn.Module) -> bool:
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    return bool(_is_group_offload_enabled(module))


def _named(plan: Plan, pipe: Any) -> Iterator[Diagnostic]:
    """Names of the plan that neither the pipeline nor diffusers' class has. What the class has and the
    pipeline has not, or has as None, is skipped in the walk."""
    known, built = set(pipe.components), known_class(pipe)
    may_be = known | set(built.components if built else ())
    named = [(n.name, n.span) for n in plan.exclude] + [(c.name, c.span) for c in plan.components.values()]
    named += [(use.component, use.span) for use in _uses(plan)]
    for name, span in dict(reversed(named)).items():
        if name not in may_be:
            yield finding(
                COMPONENT_MISSING,
                f'the plan names "{name}", and this {type(pipe).__name__} has no such component',
                span=span,
                hint=did_you_mean(name, known),
            )


def _entries(plan: Plan, pipe: Any) -> Iterator[Diagnostic]:
    """Entry points that the built model does not have: nothing would watch them. Those that diffusers' class
    would call, if they were there, are skipped in the walk."""
    built = known_class(pipe)
    for use in _uses(plan):
        part = pipe.components.get(use.component)
        info = built.components.get(use.component) if built else None
        may_be = info is not None and use.entry in info.entries
        if not use.entry or may_be or not isinstance(part, torch.nn.Module):
            continue
        if not callable_at(part, use.entry):
            said = f'"{use.component}" ({type(part).__name__}) has no entry point "{use.entry}"'
            yield finding(UNKNOWN_ENTRY, said, span=use.span)


def _uses(plan: Plan) -> Iterator[Use]:
    pending = list(plan.stages or ())
    for stage in pending:
        pending += stage.stages
        yield from stage.runs


def _dtype(plan: Plan, pipe: Any) -> Iterator[Diagnostic]:
    if plan.pipeline.dtype is None:
        return
    wanted = getattr(torch, plan.pipeline.dtype, None)
    if wanted is not None and modules_of(pipe) and pipe.dtype != wanted:
        yield finding(
            DTYPE_DIFFERS,
            f'the plan says dtype "{plan.pipeline.dtype}", the pipeline is loaded as "{str(pipe.dtype)[6:]}"',
            span=plan.place("/pipeline/dtype"),
            pointer="/pipeline/dtype",
        )


def _shared(pipe: Any, device: Device | None) -> Iterator[Diagnostic]:
    """One device's sessions share components; a component has one device."""
    for name, module in modules_of(pipe).items():
        other = device_of_module(module)
        if other is not None and device is not None and other is not device:
            yield finding(
                SHARED_COMPONENT,
                f'component "{name}" is shared with a pipeline that is under a plan on another device',
                hint="call session.remove() on that one first",
            )


def _unused(plan: Plan) -> Iterator[Diagnostic]:
    said = [key for key in ("source", "variant") if getattr(plan.pipeline, key)]
    keys = [f"pipeline.{key}" for key in said] + (["run"] if plan.run else [])
    if keys:
        yield finding(NOT_USED_HERE, f"not used on a loaded pipeline: {', '.join(keys)}", span=plan.span)
