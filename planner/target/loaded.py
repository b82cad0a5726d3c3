"""A loaded pipeline as a target: what it has, exactly. Duck-typed, so that nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import NOT_A_PIPELINE
from planner.target import catalogue
from planner.target.blocks import blocks_of
from planner.target.model import ComponentInfo, Target, WalkUse
from planner.target.parts import parts_of
from planner.target.walks import callable_at, runnable


def describe(pipe: Any, own: Target | None = None) -> Target:
    """Components, their classes and bytes on the device, and what of its class's own walk it can run.

    A module that stands under two names (a shared text encoder) is told under its first, as
    ``enable_model_cpu_offload`` takes it. ``own``: what is known of its class where that is none of
    diffusers', from its source or a catalogue. Raises PlanError where diffusers cannot say what the pipeline
    has.
    """
    cls, built, there = type(pipe), known_class(pipe), components_of(pipe)
    known = own or built
    first: dict[int, str] = {}
    components = {}
    for name, component in there.items():
        before = first.setdefault(id(component), name)
        expected = known.components.get(name) if known else None
        components[name] = _info(name, component, "" if before == name else before, expected)

    def here(use: WalkUse) -> WalkUse | None:
        info, component = components.get(use.component), there.get(use.component)
        if info is None or component is None or (use.entry and not callable_at(component, use.entry)):
            return None
        use = replace(use, component=info.same_as or info.name)
        return use if components[use.component].module else None

    sequence = getattr(cls, "model_cpu_offload_seq", None)
    return Target(
        cls=cls.__name__,
        components=components,
        sequence=sequence if isinstance(sequence, str) else None,
        excluded=tuple(getattr(cls, "_exclude_from_cpu_offload", None) or ()),
        walk=runnable(known.walk, here) if known else None,
        version=known.version if known else "",
        origin="loaded",
        overrides=known.overrides if known else False,
        lacks=tuple(name for name in built.components if name not in components) if built else (),
        module=known.module if known else "",
        call=known.call if known else None,
    )


def known_class(pipe: Any) -> Target | None:
    """The class of the catalogue that ``pipe`` is of, or is made from."""
    version = _installed()
    return next((t for c in type(pipe).__mro__ if (t := catalogue.find(c.__name__, version))), None)


def components_of(pipe: Any) -> dict[str, Any]:
    """``pipe.components``. Raises PlanError for what is no pipeline, and where diffusers (0.42.1,
    pipeline_utils.py:1838) refuses it: what a class registers is not what its constructor takes."""
    try:
        return dict(pipe.components)
    except (AttributeError, TypeError) as error:
        said = f'expected a loaded diffusers pipeline, found "{type(pipe).__name__}"'
        raise PlanError([finding(NOT_A_PIPELINE, said)]) from error
    except ValueError as error:
        expected, settings = pipe._get_signature_keys(pipe)
        has = {name for name in pipe.config if not name.startswith("_") and name not in settings}
        listed = ", ".join(f'"{name}"' for name in sorted(has ^ set(expected)))
        said = f'"{type(pipe).__name__}" registers other components than its __init__ takes: {listed}'
        hint = "take them in __init__, and name those that may be None in _optional_components"
        raise PlanError([finding(NOT_A_PIPELINE, said, hint=hint)]) from error


def _info(name: str, component: Any, same_as: str, expected: ComponentInfo | None) -> ComponentInfo:
    info = expected or ComponentInfo(name=name, classes=(), module=False)
    if component is None:
        return replace(info, present=False)
    module = hasattr(component, "named_parameters")
    info = replace(info, classes=(type(component).__name__,), module=module and not same_as)
    if not module or same_as:
        return replace(info, same_as=same_as if module else "")
    blocks = blocks_of(component)
    return replace(
        info,
        bytes=blocks.bytes,
        blocks=blocks,
        lacks=tuple(entry for entry in info.entries if not callable_at(component, entry)),
        weights=tuple(weights_of(component)),
        parts=tuple(parts_of(component)),
        keeps=keeps_of(component),
    )


def weights_of(module: Any) -> Iterator[tuple[str, int]]:
    """Every parameter and buffer with its bytes, under the name that it has without an adapter."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name.replace(".base_layer.", "."), tensor.numel() * tensor.element_size()


def keeps_of(module: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What its class keeps in float32, and what it skips when it is cast."""

    def said(name: str) -> tuple[str, ...]:
        return tuple(getattr(module, name, None) or ())

    keep = (*said("_keep_in_fp32_modules_strict"), *said("_keep_in_fp32_modules"))
    return keep, said("_skip_layerwise_casting_patterns")


def _installed() -> str:
    """The catalogue of the diffusers that is installed, where it ships; else the newest."""
    try:
        installed = metadata.version("diffusers")
    except metadata.PackageNotFoundError:
        installed = ""
    return installed if installed in catalogue.versions() else catalogue.versions()[0]


def module_bytes(module: Any) -> int:
    """Bytes of a module's weights on a device: what tensors share counts once, each range is aligned."""
    return blocks_of(module).bytes


def pipeline_bytes(pipe: Any) -> int:
    """Bytes of the tensors of all its components, in whatever memory."""
    parts = [part for part in pipe.components.values() if hasattr(part, "parameters")]
    found = {id(tensor): tensor for part in parts for tensor in (*part.parameters(), *part.buffers())}
    return sum(tensor.nbytes for tensor in found.values())
