"""Graph to schedule: the walk played through the guide, each move written down."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

from planner.diagnostics.diagnostic import Diagnostic, errors
from planner.graph.model import Graph, Node, Placement, Repeat, Run
from planner.plan.model import Idle, Plan
from planner.schedule.course import course_of
from planner.schedule.fit import fit_findings
from planner.schedule.guide import Guide
from planner.schedule.least import least_budget
from planner.schedule.model import NOTHING, Course, Crossing, Schedule, Step
from planner.schedule.pins import pin_order
from planner.source.text import Span

_TOGETHER = 4
"""Optional uses that are left out at once: as many as a call's arguments decide apart from each other."""
_PLAYED = 50_000
"""Uses that are played for the peak, about a second: sets of many optional uses grow without bound."""


def lower(
    graph: Graph, *, budget: int | None = None, overhead: int = 0, advice: bool = True
) -> tuple[Schedule | None, tuple[Diagnostic, ...]]:
    """The schedule of ``graph``.

    ``budget``: bytes that the driver may show, where a machine said so; else the plan's
    ``budget.vram`` when it is in bytes. ``overhead``: bytes of it that are not for weights (the
    device's context). Without a budget nothing is checked, and each use holds only what it needs.
    ``advice``: what does not fit is told with the least budget that would do, which takes some dozens of
    compilations.
    """
    course = course_of(graph, budget, overhead)
    would_fit = cache(lambda: _would_fit(graph, budget, overhead) if advice else "")
    found = list(fit_findings(graph, course, would_fit))
    if errors(found):
        return None, tuple(found)
    schedule = _written(graph, course)
    return schedule, tuple(found)


def _would_fit(graph: Graph, budget: int | None, overhead: int) -> str:
    """What the user can do: one value, whatever the number of findings."""
    least = least_budget(graph, overhead)
    asked = graph.plan.budget.vram
    if least is None:
        return ""
    if budget is None or (asked is not None and asked.bytes == budget):
        return f"--set budget.vram={least} is the least that fits"
    return f"{least} is the least that fits: a larger card, or one with more of it free"


def ways(
    schedule: Schedule, used: Collection[str], resident: Collection[str] = ()
) -> Iterator[tuple[Step, ...]]:
    """The steps of each way through the optional uses when just the components ``used`` ran; and the
    same when stages of several uses are passed twice (a negative prompt).

    ``resident``: what an earlier call left on the device (``idle: keep``); placed components count
    as placed already. The way that leaves out the least comes first.
    """
    optional = _optional(schedule.course)
    gone = tuple(run for run in optional if run.component not in used)
    open_ = [run for run in optional if run.component in used]
    for more in _absences(schedule.course, open_):
        for passes in (1, 2):
            tape = _play(schedule.placements, schedule.course, (*gone, *more), resident, passes)
            yield tuple(step for step in tape.steps if step.do != "place")


def _written(graph: Graph, course: Course) -> Schedule:
    optional = _optional(course)
    tape = _play(graph.placements, course, (), denoising=_denoising(graph.plan))
    known = None not in course.sizes.values()
    host = {name: graph.target.components[name].bytes for name in graph.placements}
    # Whom an absent use would have evicted stays: the peak is that of the worst way through.
    # A second pass over a stage (a negative prompt) may find there what the first one left.
    plays = (
        [_play(graph.placements, course, gone, (), n) for gone in _absences(course, optional) for n in (1, 2)]
        if known
        else []
    )
    return Schedule(
        plan=graph.plan.name,
        pipeline=graph.target.cls,
        device=graph.plan.device,
        course=course,
        placements=graph.placements,
        host=host,
        pins=pin_order(course, graph.placements, host, tape.steps),
        steps=tuple(tape.steps),
        peak=max((s.after or 0 for play in plays for s in play.steps), default=0) if known else None,
        moved=None if tape.moved is None else tape.moved.known,
        each_step=0 if tape.moved is None else tape.moved.each_step,
        version=graph.target.version,
    )


def _denoising(plan: Plan) -> int | None:
    """How many denoising steps the plan's own run has."""
    said = plan.run.get("num_inference_steps")
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None


def _absences(course: Course, optional: Sequence[Run]) -> Iterator[tuple[Run, ...]]:
    """Which optional uses do not happen: none, each, each two, and so on, as far as playing them all takes no
    longer than _PLAYED. Of the classes of the catalogue all sets of up to four are played."""
    uses = 2 * sum(len(node.runs) for node in course.walk)
    played = 0
    for n in range(min(len(optional), _TOGETHER) + 1):
        played += comb(len(optional), n) * uses
        if n and played > _PLAYED:
            return
        yield from combinations(optional, n)


def _optional(course: Course) -> tuple[Run, ...]:
    return tuple(dict.fromkeys(run for node in course.walk for run in node.runs if run.optional))


class _Pass(NamedTuple):
    """One pass over the walk's ``stage``: ``times`` for people, ``often`` how many times in a call (None:
    not known)."""

    stage: int
    times: str
    often: int | None


@dataclass(slots=True)
class _Tape:
    """Steps as they are played, who is on the device (``early``: the bytes of whom not all is), and the bytes
    ``moved`` there in a call."""

    course: Course
    placements: Mapping[str, Placement]
    resident: list[str] = field(default_factory=list)
    early: dict[str, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    often: int | None = 1
    moved: Crossing | None = NOTHING
    denoising: int | None = None

    def move(self, do: str, component: str, stage: str, origin: Span, why: str, first: int = 0) -> None:
        """``first``: bytes of a ``prefetch``."""
        size = self.course.sizes.get(component)
        there = self.early.pop(component, 0)
        if do == "evict":
            self.resident.remove(component)
            size = there or size
        elif do == "prefetch":
            self.resident.append(component)
            self.early[component] = size = first
        elif there:
            size = self.course.size(component) - there
            if not size:
                return  # all of it came
        else:
            self.resident.append(component)
        crosses = self._crossing(component, do, size, there) if do in ("load", "prefetch") else NOTHING
        self._write(do, component, "", stage, origin, why, "", size, crosses)

    def use(self, run: Run, stage: Node, times: str) -> None:
        why = "optional" if run.optional else ""
        size = self.course.sizes.get(run.component)
        crosses = self._streamed(run.component, stage)
        self._write("use", run.component, run.entry, stage.id, run.span, why, times, size, crosses)

    def _crossing(self, component: str, do: str, size: int | None, there: int) -> Crossing | None:
        """On arrival: of what streams, what stays; its ring is room, and is filled as it runs."""
        part = self.placements[component].split
        if do == "load" and part is not None:
            size = max(0, part.resident - there)
        return None if None in (size, self.often) else Crossing(size or 0).times(self.often or 0)

    def _streamed(self, component: str, stage: Node) -> Crossing | None:
        """While it runs: what does not stay, once a pass."""
        placement, loop = self.placements[component], stage.loop
        if not placement.streams:
            return NOTHING
        if placement.split is None or self.often is None:
            return None
        once = placement.split.crossing
        if loop is None or loop.count is not None:
            made = Crossing(once * (1 if loop is None else loop.count or 0))
        elif self.denoising is not None:
            made = Crossing(once * max(1, round((loop.share or 1) * self.denoising)))
        else:
            made = Crossing(each_step=round(once * (loop.share or 1)))
        return made.times(self.often)

    def _write(
        self,
        do: str,
        component: str,
        entry: str,
        stage: str,
        origin: Span,
        why: str,
        times: str,
        size: int | None,
        crosses: Crossing | None,
    ) -> None:
        if do != "place":
            self.moved = _sum(self.moved, crosses)
        sizes = [self.early.get(name, self.course.sizes.get(name)) for name in self.resident]
        self.steps.append(
            Step(
                do=do,  # type: ignore[arg-type]  # the callers write one of Do
                component=component,
                entry=entry,
                stage=stage,
                bytes=size,
                after=None if None in sizes else sum(s or 0 for s in sizes),
                crosses=crosses,
                times=times,
                why=why,
                origin=origin,
            )
        )


def _sum(a: Crossing | None, b: Crossing | None) -> Crossing | None:
    return None if a is None or b is None else a + b


def _play(
    placements: Mapping[str, Placement],
    course: Course,
    absent: tuple[Run, ...],
    resident: Collection[str] = (),
    passes: int = 1,
    denoising: int | None = None,
) -> _Tape:
    """One call's steps when the optional uses in ``absent`` do not happen. ``passes``: how often a stage
    of several uses that does not loop is passed over."""
    tape = _Tape(course, placements, denoising=denoising)
    guide = Guide(course)
    for name in course.fixed:
        placement = placements[name]
        tape.move("place", name, "", placement.span, placement.why)
    tape.resident += [name for name in resident if name not in tape.resident]
    for stage, times, often in _passes(course):
        node = course.walk[stage]
        tape.often = often
        again = passes if node.loop is None and len(node.runs) > 1 else 1
        for number, run in [*enumerate(node.runs)] * again:
            if run in absent or run.component not in placements:
                continue
            decision = guide.enter_planned(stage, number, tape.resident)
            for name in decision.evict:
                tape.move("evict", name, node.id, run.span, f"makes room for {run}")
            if run.component not in tape.resident or run.component in tape.early:
                tape.move("load", run.component, node.id, run.span, "")
            if decision.ahead is not None:
                name, first = decision.ahead
                tape.move("prefetch", name, node.id, placements[name].span, f"while {run} runs", first)
            tape.use(run, node, times)
    for name in guide.finish(tuple(tape.resident)):
        tape.move("evict", name, "", placements[name].span, "the call is over")
    if course.idle is Idle.KEEP:
        guide.start()
    return tape


def _passes(course: Course) -> Iterator[_Pass]:
    """The stages as one call passes them. A repeated group is passed twice: the first pass and, since
    what lies on the device then differs, any later one."""
    yield from _span(course, 0, len(course.walk), course.repeats, "", 1)


def _span(
    course: Course, at: int, end: int, repeats: tuple[Repeat, ...], times: str, count: int | None
) -> Iterator[_Pass]:
    """Stages ``at`` to ``end``; ``repeats`` are the groups inside, ``times`` those around."""
    while at < end:
        group = max((r for r in repeats if r.first == at), key=lambda r: r.last, default=None)
        if group is None:
            node = course.walk[at]
            loop = node.loop.text if node.loop else ""
            yield _Pass(at, " x ".join(filter(None, (loop, times))), count)
            at += 1
            continue
        inner = tuple(r for r in repeats if r is not group)
        again = None if count is None or group.loop.count is None else count * (group.loop.count - 1)
        yield from _span(course, at, group.last + 1, inner, times, count)
        yield from _span(
            course, at, group.last + 1, inner, " x ".join(filter(None, (group.loop.text, times))), again
        )
        at = group.last + 1
