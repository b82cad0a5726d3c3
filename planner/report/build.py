"""A report from a schedule and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from planner.plan.model import Plan
from planner.predict.start import Start
from planner.report.image import image_words
from planner.report.model import BudgetInfo, DeviceInfo, Measured, Promised, Report, Room
from planner.schedule.model import Schedule
from planner.schedule.timeline import timeline


def report_of(
    schedule: Schedule,
    plan: Plan,
    measured: Measured,
    device: DeviceInfo | str,
    *,
    budget: Room | None = None,
    start: Start | None = None,
    seed: int | None = None,
    outputs: Iterable[str | Path] = (),
) -> Report:
    """``device``: its description, or a name alone; ``budget``: what the machine left (the plan's own
    otherwise); ``start``: what was predicted of loading and applying; ``outputs``: the files written, of
    which the names are kept, without folders."""
    where = DeviceInfo(name=device) if isinstance(device, str) else device
    room = BudgetInfo(budget=budget.budget, overhead=budget.overhead) if budget else of_plan(plan, where)
    return Report(
        plan=schedule.plan,
        pipeline=schedule.pipeline,
        source=plan.pipeline.source,
        dtype=plan.pipeline.dtype,
        device=where,
        budget=room,
        image=image_words(plan),
        seed=seed,
        promised=Promised(
            peak_weights=schedule.peak,
            moved=schedule.moved,
            each_step=schedule.each_step,
            load=None if start is None else start.load.seconds,
            apply=None if start is None else start.apply.seconds,
        ),
        measured=measured,
        timeline=timeline(schedule),
        outputs=tuple(Path(path).name for path in outputs),
    )


def of_plan(plan: Plan, device: DeviceInfo | None) -> BudgetInfo:
    """The plan's own budget, where no machine has said what it leaves."""
    vram = plan.budget.vram
    return BudgetInfo(budget=vram.of(device.total if device else None) if vram else None)
