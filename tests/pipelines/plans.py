"""Plans for the pipelines of ``registry``, and sessions under them on the virtual accelerator."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pipelines.registry import run
from planner.diagnostics.diagnostic import Diagnostic, errors
from planner.document.read import read_document
from planner.graph.build import build_graph
from planner.passes.residency import residency
from planner.plan.build import build_plan
from planner.plan.model import Plan
from planner.schedule.lower import lower
from planner.schedule.model import Schedule
from planner.session.attach import attach_schedule
from planner.session.session import Session
from planner.session.verdict import judge
from planner.target.loaded import describe
from planner.virtual.audit import Audit, audit
from planner.virtual.device import SimDevice


def read(text: str) -> Plan:
    """The plan in ``text``. Fails on any error in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.plan.yaml"
        path.write_text(text, encoding="utf-8")
        document, found, _ = read_document(path)
    assert document is not None, found
    plan, problems = build_plan(document)
    assert plan is not None, problems
    return plan


def plan_for(pipe: Any, *lines: str) -> Plan:
    """A plan for the class of ``pipe``, with ``lines`` of YAML after the first two."""
    return read("\n".join(("version: 1", f"pipeline: {type(pipe).__name__}", *lines)) + "\n")


def as_diffusers(pipe: Any) -> Plan:
    """The plan that means what ``pipe.enable_model_cpu_offload()`` does."""
    modules = [n for n in describe(pipe).modules if pipe.components[n] is not None]
    listed = [n for n in pipe.model_cpu_offload_seq.split("->") if n in pipe.components]
    names = listed or modules[:1]  # a chain of one evicts nobody, as no chain at all
    chain = " -> ".join(dict.fromkeys(names))
    out = [n for n in pipe._exclude_from_cpu_offload if pipe.components.get(n) and n not in names]
    lines = ["semantics: diffusers", f"order: {chain}"]
    return plan_for(pipe, *lines, *([f"exclude: [{', '.join(out)}]"] if out else []))


def schedule_for(plan: Plan, pipe: Any, budget: int | None = None) -> Schedule:
    """The schedule of ``plan`` on the loaded pipeline; ``budget`` in bytes."""
    graph, found = build_graph(plan, describe(pipe))
    assert graph is not None, found
    graph, _ = residency(graph, budget)
    schedule, problems = lower(graph, budget=budget)
    assert schedule is not None, [str(p) for p in problems]
    assert not errors(problems), [str(p) for p in problems]
    return schedule


def attached(
    plan: Plan, pipe: Any, budget: int | None = None, device: SimDevice | None = None
) -> tuple[Session, SimDevice]:
    """A session on ``pipe``. ``budget`` in bytes."""
    made = SimDevice() if device is None else device
    return attach_schedule(plan, schedule_for(plan, pipe, budget), pipe, made), made


def tight(pipe: Any, plan: Plan) -> int:
    """Bytes for the largest stage and not one more: what is fixed, with what a stage holds at once."""
    course = schedule_for(plan, pipe).course
    fixed = sum(map(course.size, course.fixed))
    demand = sum(map(course.size, course.on_demand))
    stages = [
        sum(map(course.size, {*node.components} - {*course.fixed}))
        if node.loop
        else max(course.size(name) for name in node.components)
        for node in course.walk
    ]
    return fixed + demand + max(stages, default=0)


def judged(session: Session, device: SimDevice, pipe: Any, name: str, truth: Any, **more: Any) -> Judged:
    """One call under ``session``, watched."""
    with audit(pipe, device, before=truth) as seen:
        outputs = run(pipe, name, **more)
    return Judged(outputs, seen, judge(session, seen))


class Judged:
    """``outputs`` of the call, what was ``seen``, and what there is to ``say``."""

    def __init__(self, outputs: Any, seen: Audit, say: tuple[Diagnostic, ...]) -> None:
        self.outputs = outputs
        self.seen = seen
        self.say = say

    @property
    def bad(self) -> list[str]:
        """The errors in words."""
        return [str(d) for d in errors(self.say)]
