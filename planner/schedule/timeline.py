"""A schedule as an operator reads it: a row for each component of each stage."""

from __future__ import annotations

from dataclasses import dataclass

from planner.schedule.model import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Bytes are weights: ``moves`` host to device for this stage, early ones too, ``peak`` on the device at
    most while it uses the component; None where a size is not known."""

    stage: str
    component: str
    policy: str
    moves: int | None
    peak: int | None
    highest: bool


def timeline(schedule: Schedule) -> tuple[Row, ...]:
    """The rows in the order of the walk; a stage that passes again adds to its own rows."""
    moves: dict[tuple[str, str], int | None] = {}
    peaks: dict[tuple[str, str], int | None] = {}
    early: dict[str, int | None] = {}
    for step in schedule.steps:
        key = (step.stage, step.component)
        if step.do == "prefetch":
            early[step.component] = step.bytes
        elif step.do == "load":
            # A streamed component's moves depend on how often its forward runs.
            streams = schedule.placements[step.component].streams
            moves[key] = None if streams else _sum(moves.get(key, 0), step.bytes)
        elif step.do == "use":
            if step.component in early:
                moves[key] = _sum(moves.get(key, 0), early.pop(step.component))
            moves.setdefault(key, 0)
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
                moves=moves.get((stage, component)),
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


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
