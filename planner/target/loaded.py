"""A loaded pipeline as a target: what it has, exactly. Duck-typed, so that nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from planner.target import catalogue
from planner.target.blocks import blocks_of
from planner.target.model import Blocks, ComponentInfo, Target
from planner.target.parts import parts_of


def describe(pipe: Any) -> Target:
    """Components, their classes and bytes on the device, and the class's own walk where it is known.

    A module that stands under two names (a shared text encoder) is told under its first, as
    ``enable_model_cpu_offload`` takes it.
    """
    cls = type(pipe)
    version = _installed()
    known = next((t for c in cls.__mro__ if (t := catalogue.find(c.__name__, version)) is not None), None)
    seen: set[int] = set()
    components = {}
    for name, component in pipe.components.items():
        expected = known.components.get(name) if known else None
        module = hasattr(component, "named_parameters") and id(component) not in seen
        seen.add(id(component))
        blocks = _blocks(component) if module else None
        components[name] = ComponentInfo(
            name=name,
            classes=(type(component).__name__,)
            if component is not None
            else getattr(expected, "classes", ()),
            module=module or (component is None and expected is not None and expected.module),
            optional=expected.optional if expected else False,
            present=component is not None,
            bytes=blocks.bytes if blocks else None,
            blocks=blocks,
            entries=expected.entries if expected else (),
            weights=tuple(weights_of(component)) if module else None,
            parts=tuple(parts_of(component)) if module else None,
            keeps=keeps_of(component) if module else ((), None),
        )
    sequence = getattr(cls, "model_cpu_offload_seq", None)
    return Target(
        cls=cls.__name__,
        components=components,
        sequence=sequence if isinstance(sequence, str) else None,
        excluded=tuple(getattr(cls, "_exclude_from_cpu_offload", None) or ()),
        walk=known.walk if known else None,
        version=known.version if known else "",
        origin="loaded",
        overrides=known.overrides if known else False,
    )


def _blocks(module: Any) -> Blocks:
    """bitsandbytes moves its 8-bit weights itself, the component whole."""
    blocks = blocks_of(module)
    if any(type(tensor).__name__ == "Int8Params" for tensor in module.parameters()):
        return Blocks(fixed=blocks.bytes, streamable=())
    return blocks


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
