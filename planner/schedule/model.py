"""A compiled plan: what is loaded, used and evicted, in order, with the bytes on the device after each.

Bytes are weights alone, as ``planner.target.model.device_bytes`` counts them; None where a size is
not known. Activations and the device's own context come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from planner.graph.activations import Predicted
from planner.graph.model import Node, Placement, Repeat
from planner.plan.model import Idle, Semantics
from planner.source.text import Span

Do = Literal["place", "prefetch", "load", "use", "evict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """All that decides who is where: the walk, the sizes, the rules. What a ``Guide`` reads.

    ``fixed``: components that never leave (resident and excluded); ``predecessor``: whom a component
    evicts under ``semantics: diffusers``; ``budget``: bytes for weights, None when not known; ``cuts``: how
    many bytes of each may come before the rest, smallest first; ``streamed``: who needs the link all along;
    ``activations``: predicted ones.
    """

    walk: tuple[Node, ...]
    repeats: tuple[Repeat, ...]
    sizes: Mapping[str, int | None]
    fixed: tuple[str, ...]
    on_demand: tuple[str, ...]
    predecessor: Mapping[str, str]
    semantics: Semantics
    idle: Idle
    budget: int | None
    cuts: Mapping[str, tuple[int, ...]]
    streamed: frozenset[str]
    activations: Predicted = field(default_factory=dict)

    def size(self, component: str) -> int:
        """Bytes of a component, 0 when not known."""
        return self.sizes.get(component) or 0


@dataclass(frozen=True, slots=True)
class Crossing:
    """Bytes host to device: ``known`` of them, and ``each_step`` more a denoising step, where nobody has said
    how many steps there are."""

    known: int = 0
    each_step: int = 0

    def __add__(self, other: Crossing) -> Crossing:
        return Crossing(self.known + other.known, self.each_step + other.each_step)

    def times(self, count: int) -> Crossing:
        """So often."""
        return Crossing(self.known * count, self.each_step * count)


NOTHING = Crossing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One move or one use. ``origin`` is the line of the plan that it comes from.

    ``place`` puts a component on the device when the plan is applied; ``prefetch`` brings the first ``bytes``
    of one while another runs, and ``load`` then the rest; ``after`` are the bytes on the device once the step
    is done; ``times`` says how often a use repeats (``steps``, ``20``). ``crosses``: what the step copies
    to the device in a call, all its repeats together; None where that is not known.
    """

    do: Do
    component: str
    entry: str = ""
    stage: str
    bytes: int | None
    after: int | None
    crosses: Crossing | None = NOTHING
    times: str = ""
    why: str = ""
    origin: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What ``plan apply`` will do.

    ``host``: bytes of each component's weights in host memory, None where not known; ``pins``: in which order
    they are pinned, as far as that goes. ``peak`` is the largest ``after`` of any way through the optional
    uses, stages of several uses passed once or twice, without components on demand; ``moved`` the bytes that
    one call copies to the device (``place`` left out), ``each_step`` those beside that each denoising step
    copies, where the plan does not say how many there are. What streams crosses once a step: guidance that
    runs the model twice doubles it, and a first call, which does not know the blocks' order yet, may bring a
    few in vain.
    """

    plan: str
    pipeline: str
    device: str
    course: Course
    placements: Mapping[str, Placement]
    host: Mapping[str, int | None]
    pins: tuple[str, ...]
    steps: tuple[Step, ...]
    peak: int | None
    moved: int | None
    each_step: int = 0
    version: str

    @property
    def peak_step(self) -> Step | None:
        """The first step at which the most bytes lie on the device."""
        known = [step for step in self.steps if step.after is not None]
        return max(known, key=lambda step: step.after or 0, default=None)
