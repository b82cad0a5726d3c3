"""What a plan is for: a pipeline's components, classes, bytes and walk, however they were learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from planner.target.call import Call
from planner.target.parts import Part

ALIGNMENT = 512
"""Bytes: each tensor starts at a multiple of this on the device, as torch's own allocator rounds."""

Weights = tuple[tuple[str, int], ...]
"""Names and bytes of tensors."""

Origin = Literal["catalogue", "shipped", "folder", "loaded", "plan"]
"""Where a target was learned: ``shipped`` has the sizes of ``planner.models``, ``plan`` is what a plan itself
says of a class that nothing else tells of."""
WalkLoop = Literal["", "steps", "times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkUse:
    """A use in a class's own walk: ``entry`` is the path under the component, "" for ``forward``;
    ``optional``: it may not happen where others of its stage do."""

    component: str
    entry: str = ""
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.component}.{self.entry}" if self.entry else self.component


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkStage:
    """One stage of a class's own walk: ``runs``, or ``stages`` that repeat as a group.

    ``loop``: ``steps`` when it runs once a denoising step, ``times`` when it repeats for another reason
    (chunks of a video). ``optional``: its uses may not happen (the source has them under a condition).
    """

    id: str
    runs: tuple[WalkUse, ...]
    stages: tuple[WalkStage, ...] = ()
    loop: WalkLoop = ""
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A component's bytes: ``fixed`` lie on the device whenever it is in use, each of ``streamable`` need
    be there only while it runs."""

    fixed: int
    streamable: tuple[int, ...]

    @cached_property
    def bytes(self) -> int:
        """All of them."""
        return self.fixed + sum(self.streamable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentInfo:
    """One constructor argument of a pipeline class, or one component of a folder or pipeline.

    ``module``: it has weights (an nn.Module), as far as its class names tell; ``classes``: the
    annotated or actual class names; ``present``: False for a component that is None;
    ``bytes``: of its weights as they will lie on the device (``device_bytes``), None when not known;
    ``blocks``: how they split, None when not known; ``entries``: paths under it that pipelines call
    (``encode``, ``decode``), without ``forward``, and ``lacks`` those of them that a loaded component does
    not have; ``weights``: its tensors once loaded, and ``parts``: its modules that quantization knows, None
    when their names are not known; ``keeps``: of its class, ``_keep_in_fp32_modules`` and
    ``_skip_layerwise_casting_patterns``, the latter None when not known; ``quantized``: by which method its
    weights were quantized when they were saved, "" for plain ones; ``converted``: bytes in its files of what
    is stored in another dtype than it is loaded in, None when not known.
    """

    name: str
    classes: tuple[str, ...]
    module: bool
    optional: bool = False
    present: bool = True
    same_as: str = ""
    bytes: int | None = None
    blocks: Blocks | None = None
    entries: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    weights: Weights | None = None
    parts: tuple[Part, ...] | None = None
    keeps: tuple[tuple[str, ...], tuple[str, ...] | None] = ((), None)
    quantized: str = ""
    converted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pipeline as the planner knows it.

    ``sequence`` and ``excluded`` are the class's ``model_cpu_offload_seq`` and
    ``_exclude_from_cpu_offload``; ``walk`` is None when the source did not say in which order the
    components run; ``version`` is the diffusers version of the catalogue; ``overrides``: the class has an
    ``enable_model_cpu_offload`` of its own; ``lacks``: components of diffusers' class that a loaded pipeline
    of that name, or of a class made from it, does not have; ``module``: the Python module of a class of a
    user's own, "" for diffusers'; ``call``: the arguments of its call, None when not known.
    """

    cls: str
    components: Mapping[str, ComponentInfo]
    sequence: str | None
    excluded: tuple[str, ...]
    walk: tuple[WalkStage, ...] | None
    version: str
    origin: Origin
    overrides: bool = False
    lacks: tuple[str, ...] = ()
    module: str = ""
    call: Call | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the components that have weights, in constructor order, None ones included."""
        return tuple(n for n, c in self.components.items() if c.module)

    @property
    def bytes(self) -> int:
        """Of all weights whose size is known."""
        return sum(info.bytes or 0 for info in self.components.values())


def device_bytes(sizes: Iterable[int]) -> int:
    """Bytes that tensors of ``sizes`` bytes take on the device, each at a multiple of ALIGNMENT."""
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)
