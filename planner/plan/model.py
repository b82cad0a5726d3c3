"""A plan as its author meant it: short forms opened, units read, every part with its place.

Frozen; nothing here knows a pipeline's components (``planner.target`` does) or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from planner.document.document import Document
from planner.source.text import Span
from planner.target.vae_options import VAE_OPTIONS


class Policy(Enum):
    """What happens to a component's weights (design section 2)."""

    RESIDENT = "resident"
    OFFLOAD = "offload"
    STREAM = "stream"


class Semantics(Enum):
    """Which moves a session makes: by what the rest of the walk needs, or as diffusers does."""

    LIVENESS = "liveness"
    DIFFUSERS = "diffusers"


class Idle(Enum):
    """What stays on the device between calls."""

    RELEASE = "release"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A size: ``bytes``, or ``share`` (0..1) of the card or of the component. Exactly one is set."""

    bytes: int | None = None
    share: float | None = None
    text: str
    span: Span

    def of(self, whole: int | None) -> int | None:
        """Bytes, given the whole that a share is a share of; None when that is not known."""
        if self.bytes is not None:
            return self.bytes
        return None if whole is None or self.share is None else int(whole * self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One run of a component by a stage. ``entry`` is the path under the component, "" for all."""

    component: str
    entry: str = ""
    span: Span

    def __str__(self) -> str:
        return f"{self.component}.{self.entry}" if self.entry else self.component


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How often a stage repeats in a call: ``count`` times, or ``share`` (0..1) of the steps.

    Neither is set where only the pipeline knows (chunks of a video).
    """

    count: int | None = None
    share: float | None = None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A node of the plan's DAG. It has ``runs`` or ``stages``, not both.

    ``after`` is None when it follows the stage above, empty when it follows nothing.
    """

    id: str
    runs: tuple[Use, ...] = ()
    stages: tuple[Stage, ...] = ()
    loop: Loop | None = None
    after: tuple[tuple[str, Span], ...] | None = None
    optional: bool = False
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What the plan says of one component under ``components``; None where it is silent."""

    name: str
    policy: Policy | None = None
    resident: Amount | None = None
    prefetch: int | None = None
    source: str | None = None
    tiling: bool | None = None
    slicing: bool | None = None
    options: Mapping[str, Any]
    spans: Mapping[str, Span]
    span: Span

    @property
    def vae_options(self) -> dict[str, bool]:
        """``tiling`` and ``slicing``, those that the plan says."""
        return {name: said for name in VAE_OPTIONS if (said := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much memory there is; None where the plan leaves it to apply."""

    vram: Amount | None = None
    ram: Amount | None = None
    pinned: Amount | None = None
    leave_free: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRef:
    """Which pipeline, and from where."""

    cls: str
    source: str | None = None
    dtype: str | None = None
    variant: str | None = None
    revision: str | None = None
    span: Span
    spans: Mapping[str, Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationRule:
    """One rule of ``quantization``, in the file's order; ``options`` are the backend's own."""

    component: str
    backend: str
    match: str | None = None
    classes: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    required: bool = True
    options: Mapping[str, Any]
    spans: Mapping[str, Span]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One entry of ``loras``, under diffusers' own argument names."""

    lora_id: str
    lora_scale: float = 1.0
    adapter_name: str | None = None
    weight_name: str | None = None
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name where it stands in the file."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan file, read. ``stages`` is None when the catalogue's walk is meant.

    ``from_order`` says that the stages were written as ``order``; ``device`` is ``auto`` or a torch
    device string. ``run`` and ``workload`` hold values as written.
    """

    name: str
    pipeline: PipelineRef
    device: str
    budget: Budget
    components: Mapping[str, Component]
    stages: tuple[Stage, ...] | None
    from_order: bool
    exclude: tuple[Name, ...]
    quantization: tuple[QuantizationRule, ...]
    loras: tuple[Lora, ...]
    semantics: Semantics
    idle: Idle
    run: Mapping[str, Any]
    workload: Mapping[str, Any]
    requires: Mapping[str, str]
    span: Span
    document: Document

    def place(self, pointer: str) -> Span:
        """Where ``pointer`` stands in the file; the whole plan's place when it was left out."""
        return self.document.spans.get(pointer, self.span)
