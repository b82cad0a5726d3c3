"""A schedule as a file: deterministic JSON, described by ``schemas/schedule.v1.schema.json``."""

from __future__ import annotations

import json
from typing import Any

from planner.schedule.model import Schedule, Step

FORMAT = 1


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """Plain values, keys in a fixed order, no machine's paths: origins are line and column."""
    course = schedule.course
    return {
        "format": FORMAT,
        "plan": schedule.plan,
        "pipeline": schedule.pipeline,
        "catalogue": schedule.version,
        "device": schedule.device,
        "semantics": course.semantics.value,
        "idle": course.idle.value,
        "budget": course.budget,
        "peak": schedule.peak,
        "moved": schedule.moved,
        "each_step": schedule.each_step,
        "pins": list(schedule.pins),
        "components": {
            name: {
                "policy": p.policy.value,
                "excluded": p.excluded,
                "on_demand": name in course.on_demand,
                "bytes": course.sizes.get(name),
                "predecessor": course.predecessor.get(name),
                "why": p.why,
                **({} if p.split is None else {"stays": p.split.resident, "crosses": p.split.crossing}),
            }
            for name, p in schedule.placements.items()
        },
        "steps": [_step(step) for step in schedule.steps],
    }


def to_json(schedule: Schedule) -> str:
    """The same schedule gives the same bytes."""
    return json.dumps(to_dict(schedule), indent=2, ensure_ascii=False) + "\n"


def _step(step: Step) -> dict[str, Any]:
    made: dict[str, Any] = {"do": step.do, "component": step.component}
    if step.entry:
        made["entry"] = step.entry
    if step.stage:
        made["stage"] = step.stage
    made["bytes"] = step.bytes
    made["after"] = step.after
    if step.times:
        made["times"] = step.times
    if step.why:
        made["why"] = step.why
    made["origin"] = {"line": step.origin.line, "column": step.origin.column}
    return made
