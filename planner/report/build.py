"""A report from a schedule and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from planner.plan.model import Plan
from planner.report.image import image_words
from planner.report.model import BudgetInfo, DeviceInfo, Measured, Promised, Report
from planner.schedule.model import Schedule
from planner.schedule.timeline import timeline


def report_of(
    schedule: Schedule,
    plan: Plan,
    measured: Measured,
    device: DeviceInfo,
    *,
    budget: BudgetInfo | None = None,
    seed: int | None = None,
    outputs: Iterable[str | Path] = (),
) -> Report:
    """``budget``: what the machine left (the plan's own otherwise); ``outputs``: the files written, of which
    the names are kept, without folders."""
    vram = plan.budget.vram
    return Report(
        plan=schedule.plan,
        pipeline=schedule.pipeline,
        source=plan.pipeline.source,
        dtype=plan.pipeline.dtype,
        device=device,
        budget=budget or BudgetInfo(limit=vram.of(device.total) if vram else None),
        image=image_words(plan),
        seed=seed,
        promised=Promised(peak_weights=schedule.peak, moved=schedule.moved),
        measured=measured,
        timeline=timeline(schedule),
        outputs=tuple(Path(path).name for path in outputs),
    )
