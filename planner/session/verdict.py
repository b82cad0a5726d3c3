"""A simulated call judged: what the virtual accelerator saw, beside the schedule's ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.diagnostics.diagnostic import Diagnostic
from planner.schedule.lower import ways
from planner.schedule.model import Course, Step
from planner.session.session import Session
from planner.virtual.audit import Audit
from planner.virtual.check import Way, check
from planner.virtual.compare import Event


def judge(session: Session, seen: Audit) -> tuple[Diagnostic, ...]:
    """Everything that speaks against the last call of ``session``: misses, faults, wrong bytes, weights
    left behind, and where the ledger's moves and peak are not those of the schedule (P75x, P76x).

    ``seen`` is an audit of that call on the session's ``SimDevice``, and over.
    """
    course = session.schedule.course
    before = [name for name in seen.live_before if name not in course.fixed]
    used = {event[1] for event in seen.events}  # an entry point may run no module of its component
    live = {name: course.size(name) for name in (*course.fixed, *before)}
    return check(
        seen,
        [_way(course, steps, live) for steps in ways(session.schedule, used, before)],
        on_demand=course.on_demand,
        departures=() if session.applied.last is None else session.applied.last.departures,
        loops=bool(course.repeats),
        budget=course.budget,
    )


def _way(course: Course, steps: Iterable[Step], before: Mapping[str, int]) -> Way:
    """The steps as events. A stage that passes over its uses again may use whoever is still there."""
    again = {n.id: n.components for n in course.walk if n.loop is not None or len(n.runs) > 1}
    events: list[Event] = []
    live = dict(before)
    peak = sum(live.values())
    for step in steps:
        if step.do in ("prefetch", "load"):
            live[step.component] = live.get(step.component, 0) + (step.bytes or 0)
            events.append(("load", step.component, step.bytes or 0))
        elif step.do == "evict":
            events.append(("free", step.component, live.pop(step.component)))
        else:
            there = [name for name in again.get(step.stage, ()) if name in live]
            events += [("use", name) for name in (step.component, *there)]
        peak = max(peak, sum(live.values()))
    known = None not in course.sizes.values()
    return Way(events=tuple(events), peak=peak if known else None, stay=frozenset(live))
