"""A schedule as an operator reads it: a row for each component of each stage."""

from __future__ import annotations

from dataclasses import dataclass

from planner.schedule.model import Crossing, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Bytes are weights: ``moves`` host to device for this stage, early ones too, and ``each_step`` more a
    denoising step where their number is not said; ``peak`` on the device at most while it uses the component;
    None where a size is not known."""

    stage: str
    component: str
    policy: str
    moves: int | None
    each_step: int = 0
    peak: int | None
    highest: bool


def timeline(schedule: Schedule) -> tuple[Row, ...]:
    """The rows in the order of the walk; a stage that passes again adds to its own rows."""
    moves: dict[tuple[str, str], Crossing | None] = {}
    peaks: dict[tuple[str, str], int | None] = {}
    early: dict[str, Crossing | None] = {}
    for step in schedule.steps:
        key = (step.stage, step.component)
        if step.do == "prefetch":
            early[step.component] = step.crosses
        elif step.do in ("load", "use"):
            moves[key] = _sum(moves.get(key, Crossing()), step.crosses)
        if step.do == "use":
            moves[key] = _sum(moves[key], early.pop(step.component, Crossing()))
            before = peaks.get(key, 0)
            peaks[key] = None if step.after is None or before is None else max(before, step.after)
    top = max((p for p in peaks.values() if p is not None), default=None)
    rows, marked = [], False
    for (stage, component), peak in peaks.items():
        highest = not marked and peak is not None and peak == top
        marked = marked or highest
        rows.append(
            Row(
                stage=stage,
                component=component,
                policy=_policy(schedule, component),
                moves=None if (moved := moves[stage, component]) is None else moved.known,
                each_step=0 if moved is None else moved.each_step,
                peak=peak,
                highest=highest,
            )
        )
    return tuple(rows)


def _policy(schedule: Schedule, component: str) -> str:
    placement = schedule.placements[component]
    if placement.split is not None and placement.split.buffer:
        whole = placement.split.resident + placement.split.crossing
        return f"stream, {placement.split.resident / whole:.0%} stays"
    return "excluded" if placement.excluded else placement.policy.value


def _sum(a: Crossing | None, b: Crossing | None) -> Crossing | None:
    return None if a is None or b is None else a + b
