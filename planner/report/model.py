"""One run of a plan: what was promised and what was measured. All sizes in bytes, all times in seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from planner.schedule.timeline import Row

FORMAT = 1
Ended = Literal["done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """Where it ran: ``cuda:0``, its ``kind`` as the driver names it, its memory before the run; None
    where the backend does not say."""

    name: str
    kind: str | None = None
    total: int | None = None
    free: int | None = None


class Room(Protocol):
    """What a machine leaves to a plan (``planner.session.machine.Room`` is one): bytes of ``budget`` for the
    process as the driver sees it, None where nothing limits it; ``overhead`` of them for the device's own
    context, the rest for the pipeline."""

    @property
    def budget(self) -> int | None:
        """Bytes."""

    @property
    def overhead(self) -> int:
        """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetInfo:
    """A ``Room`` of plain numbers."""

    budget: int | None = None
    overhead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """By the schedule: the most weights on the device at once, and what one call copies to it, and each
    step of it beside, where the plan does not say how many there are. ``load`` and ``apply``: seconds that
    loading and applying were to take before it, None where that is not known."""

    peak_weights: int | None
    moved: int | None
    each_step: int = 0
    load: float | None = None
    apply: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """In one call. ``peak_allocated`` and ``peak_reserved`` are torch's (weights and activations), None
    where the device has no such counters; ``seconds`` by stage, in order; ``departures`` are uses that the
    plan did not have; ``misses`` uses of weights that were not there, None where nobody looked for them
    (only simulation does). ``ended``: how the call did, where it did not return; the figures are then of what
    ran until there. ``load`` and ``apply``: seconds that the pipeline's loading and the plan's applying took
    before it, None where they were not timed."""

    peak_weights: int
    peak_allocated: int | None = None
    peak_reserved: int | None = None
    moved: int
    seconds: Mapping[str, float]
    total: float
    departures: tuple[str, ...] = ()
    misses: tuple[str, ...] | None = None
    ended: Ended = "done"
    load: float | None = None
    apply: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Promised beside measured, with what is needed to read it. ``str()`` is the picture for people."""

    plan: str
    pipeline: str
    source: str | None
    dtype: str | None
    device: DeviceInfo
    budget: BudgetInfo
    image: str
    seed: int | None
    promised: Promised
    measured: Measured
    timeline: tuple[Row, ...]
    outputs: tuple[str, ...] = ()

    @property
    def held(self) -> int:
        """The most bytes that were held at once, the device's context with them: what a budget limits."""
        m = self.measured
        most = max(x for x in (m.peak_reserved, m.peak_allocated, m.peak_weights) if x is not None)
        return most + self.budget.overhead

    @property
    def within(self) -> bool | None:
        """The budget was kept; None where there is none."""
        return None if self.budget.budget is None else self.held <= self.budget.budget

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys in a fixed order, as ``schemas/report.v1.schema.json`` describes them."""
        m = self.measured
        return {
            "format": FORMAT,
            "plan": self.plan,
            "pipeline": {"class": self.pipeline, "source": self.source, "dtype": self.dtype},
            "device": {
                "name": self.device.name,
                "kind": self.device.kind,
                "total": self.device.total,
                "free": self.device.free,
            },
            "budget": {"limit": self.budget.budget, "overhead": self.budget.overhead, "within": self.within},
            "image": self.image,
            "seed": self.seed,
            "promised": {
                "peak_weights": self.promised.peak_weights,
                "moved": self.promised.moved,
                "each_step": self.promised.each_step,
                "load": _rounded(self.promised.load),
                "apply": _rounded(self.promised.apply),
            },
            "measured": {
                "ended": m.ended,
                "peak_weights": m.peak_weights,
                "peak_allocated": m.peak_allocated,
                "peak_reserved": m.peak_reserved,
                "moved": m.moved,
                "seconds": {stage: round(s, 6) for stage, s in m.seconds.items()},
                "total": round(m.total, 6),
                "load": _rounded(m.load),
                "apply": _rounded(m.apply),
                "departures": list(m.departures),
                "misses": None if m.misses is None else list(m.misses),
            },
            "timeline": [
                {
                    "stage": row.stage,
                    "component": row.component,
                    "policy": row.policy.partition(",")[0],
                    "moves": row.moves,
                    "each_step": row.each_step,
                    "peak": row.peak,
                    "highest": row.highest,
                }
                for row in self.timeline
            ],
            "outputs": list(self.outputs),
        }

    def to_json(self) -> str:
        """The same report gives the same bytes."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        from planner.report.render import report_text  # it draws with rich, which a script may not need

        return report_text(self)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
