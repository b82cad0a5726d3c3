"""Who leaves when somebody comes: asked by the compiler for the walk, and by a session for what happens.

The walk is a guide and not a law: a use that the walk does not have here (a preview decode in a
callback, a skipped encoder) gets a decision as well, and is told apart as a departure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.graph.activations import left_free
from planner.plan.model import Idle, Semantics
from planner.schedule.model import Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``evict`` these, in this order, before the use. ``departure`` is "" for a use that was planned.

    ``ahead``: whom to bring while it runs, and how many bytes of that; None for nobody.
    """

    stage: str
    evict: tuple[str, ...]
    departure: str = ""
    ahead: tuple[str, int] | None = None


class Guide:
    """Walks along a course, one call of the pipeline at a time."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._uses = [(s, run) for s, node in enumerate(course.walk) for run in node.runs]
        loops = [s for s, node in enumerate(course.walk) if node.loop is not None]
        self._last_loop = max(loops, default=len(course.walk))
        self._together = [frozenset(node.components) for node in course.walk]
        self._found: dict[tuple[int, str, str], tuple[int | None, str]] = {}
        self._at = -1
        self._seen: set[int] = set()
        self._joined: dict[int, set[str]] = {}
        self._early: dict[str, int] = {}
        """Bytes of whom only a part was to come so far."""

    def start(self) -> None:
        """A new call: back to the beginning of the walk."""
        self._at = -1
        self._seen.clear()
        self._joined.clear()
        self._early.clear()

    def enter(self, component: str, entry: str, resident: Sequence[str], *, aside: bool = False) -> Decision:
        """``component`` is about to run. ``aside``: from a callback, which does not move the walk on."""
        if aside:
            return self._decide(component, None, resident, f"{_name(component, entry)} in a callback")
        asked = (self._at, component, entry)  # all that is looked at
        if asked not in self._found:
            self._found[asked] = self._find(component, entry)
        at, departure = self._found[asked]
        return self._decide(component, at, resident, departure)

    def enter_planned(self, stage: int, run: int, resident: Sequence[str]) -> Decision:
        """The use at ``run`` of the walk's ``stage`` is next: the compiler has nothing to find."""
        at = sum(len(node.runs) for node in self.course.walk[:stage]) + run
        return self._decide(self._uses[at][1].component, at, resident, "")

    def finish(self, resident: Iterable[str]) -> tuple[str, ...]:
        """The call is over: who leaves."""
        if self.course.idle is Idle.KEEP:
            return ()
        return tuple(name for name in resident if name not in self.course.fixed)

    def spare(self, component: str, resident: Iterable[str]) -> list[str]:
        """Who could leave while ``component`` runs, whoever is needed last first."""
        need = self._need(component, self._at if self._at >= 0 else None)
        movable = [n for n in resident if n not in {component, *need, *self.course.fixed}]
        ahead = {name: self._next_use(name) for name in movable}
        return sorted(movable, key=lambda n: (ahead[n] is not None, -(ahead[n] or 0), n))

    def is_over(self, component: str) -> bool:
        """Whether the rest of this call does not use it."""
        ahead = self._next_use(component)
        return ahead is None or (ahead >= 2 * len(self._uses) and component not in self.course.on_demand)

    def skipped(self) -> tuple[str, ...]:
        """Uses of the walk that did not happen and were not optional, with their stage where they happened in
        another one."""
        happened = {str(self._uses[at][1]) for at in self._seen}
        missing = [
            use
            for at, use in enumerate(self._uses)
            if not (at in self._seen or use[1].optional or self._alike(at))
        ]
        stages = [self.course.walk[stage].id for stage, _ in missing]
        named = [
            f'{run} in "{stage}"' if str(run) in happened else str(run)
            for stage, (_, run) in zip(stages, missing, strict=True)
        ]
        return tuple(dict.fromkeys(named))

    def _alike(self, at: int) -> bool:
        """Whether the loop that came before it has this use too: from inside a call they look alike."""
        before = max((one for one in self._seen if one < at), default=None)
        if before is None or not self._looped(stage := self._uses[before][0]):
            return False
        return str(self._uses[at][1]) in map(str, self.course.walk[stage].runs)

    def _decide(self, component: str, at: int | None, resident: Sequence[str], departure: str) -> Decision:
        if at is not None:
            self._at = at
            self._seen.add(at)
        elif (stage := self._stage) is not None and self._looped(stage):
            # It runs beside a loop (a ControlNet that the plan left out): it will be back next step.
            self._joined.setdefault(stage, set()).add(component)
        name = self.course.walk[self._stage].id if self._stage is not None else ""
        if self.course.semantics is Semantics.DIFFUSERS:
            before = self.course.predecessor.get(component, "")
            leave = [before] if before in resident and before not in self.course.fixed else []
        else:
            leave = self._leave(component, at, resident)
        there = {component, *resident}.difference(leave)
        follows = at is not None and self.course.semantics is Semantics.LIVENESS
        ahead = self._ahead(component, at or 0, there) if follows else None
        for gone in (component, *leave):
            self._early.pop(gone, None)
        if ahead is not None:
            self._early[ahead[0]] = ahead[1]
        return Decision(stage=name, evict=tuple(leave), departure=departure, ahead=ahead)

    @property
    def _stage(self) -> int | None:
        return self._uses[self._at][0] if self._at >= 0 else None

    def _looped(self, stage: int) -> bool:
        return self.course.walk[stage].loop is not None

    def _find(self, component: str, entry: str) -> tuple[int | None, str]:
        """Where in the walk this use is, and what it departs from, if it does."""

        exact = any(run.component == component and run.entry == entry for _, run in self._uses)

        def matches(i: int) -> bool:
            run = self._uses[i][1]
            return run.component == component and (run.entry == entry if exact else not run.entry)

        here = [i for i, (stage, _) in enumerate(self._uses) if stage == self._stage]
        ahead = list(range(self._at + 1, len(self._uses)))
        group = [
            i
            for repeat in self.course.repeats
            if self._stage is not None and repeat.first <= self._stage <= repeat.last
            for i, (stage, _) in enumerate(self._uses)
            if repeat.first <= stage <= repeat.last
        ]
        # Out of a stage that does not loop the next use leads on; a loop is left by what it does not have.
        looping = self._stage is not None and self._looped(self._stage)
        next_one = [] if looping else ahead[:1]
        for among in (next_one, here, [i for i in group if i > self._at], group, ahead):
            if (at := next(filter(matches, among), None)) is not None:
                return at, ""
        behind = [i for i in range(self._at, -1, -1) if matches(i)]
        if behind:
            # A loop that goes on after something else came between; anything else is a visit.
            back = behind[0] if self._looped(self._uses[behind[0]][0]) else None
            return back, f"{_name(component, entry)} again"
        if component in self.course.on_demand:
            return None, ""
        return None, f"{_name(component, entry)} not in the plan"

    def _leave(self, component: str, at: int | None, resident: Sequence[str]) -> list[str]:
        """Who makes room, under ``semantics: liveness``: the dead first, then whoever is needed last."""
        course = self.course
        need = self._need(component, at)
        movable = [n for n in resident if n not in need and n not in course.fixed]
        future = {name: self._next_use(name) for name in movable}
        if course.budget is None:
            # No budget to fill: hold what each use needs and nothing else.
            return [n for n in movable if n not in course.on_demand and future[n] != 0]
        leave = [name for name in movable if future[name] is None]
        stay = [name for name in movable if future[name] is not None]
        held = {*course.fixed, *need, *stay}
        parts = {name: nbytes for name, nbytes in self._early.items() if name not in need}
        while stay and sum(parts.get(name, course.size(name)) for name in held) > course.budget:
            last = max(stay, key=lambda name: (future[name] or 0, course.size(name), name))
            stay.remove(last)
            held.remove(last)
            leave.append(last)
        return leave

    def _ahead(self, component: str, at: int, there: set[str]) -> tuple[str, int] | None:
        """The next that will run and is not there, as far as there is room beside who is, and beside what
        activations may take."""
        course, need = self.course, self._need(component, at)
        if course.budget is None or None in course.sizes.values() or need & course.streamed:
            return None
        here, now = self._uses[at]
        around = [r.last for r in course.repeats if r.first <= here <= r.last]
        for stage, run in self._uses[at + 1 :]:
            # Of text encoders all run or none: a prompt is given as words or as embeddings. What follows the
            # last loop is what most calls are for: few want latents.
            expected = not run.optional or (stage == here and now.optional) or stage > self._last_loop
            if not expected or any(stage > last for last in around):
                return None
            if run.component not in there:
                # All of this stage, whoever of it may be left out: it promises the same bytes then.
                held = {*there, *need, *course.on_demand, *course.walk[here].components} - {run.component}
                free = left_free(course.activations, component, course.budget)
                room = course.budget - free - sum(map(course.size, held))
                cut = max((cut for cut in course.cuts.get(run.component, ()) if cut <= room), default=0)
                return (run.component, cut) if cut else None
            # A loop of the same component after this one looks like this one from inside a call.
            if stage != here and run.component not in {*course.fixed, component}:
                return None
        return None

    def _need(self, component: str, at: int | None) -> set[str]:
        """What must lie on the device together for this use: a looped stage's components all."""
        if at is None:
            return {component}
        stage = self._uses[at][0]
        if not self._looped(stage):
            return {component}
        return {component, *self._together[stage]}

    def _next_use(self, name: str) -> int | None:
        """How far off the next use is: 0 in this stage's loop, None when there is none in this call."""
        stage = self._stage
        if stage is not None:
            here = name in self._together[stage]
            if name in self._joined.get(stage, ()) or (self._looped(stage) and here):
                return 0
            if self.course.budget is not None and here:
                return 0  # a stage may pass over its runs again (a negative prompt)
        count = len(self._uses)
        distances = [i - self._at for i in range(self._at + 1, count) if self._uses[i][1].component == name]
        for repeat in self.course.repeats:
            if stage is not None and repeat.first <= stage <= repeat.last:
                distances += [
                    i - self._at + count
                    for i, (s, run) in enumerate(self._uses)
                    if run.component == name and repeat.first <= s <= repeat.last and i <= self._at
                ]
        if distances:
            return min(distances)
        if name in self.course.on_demand:
            return 3 * count  # may run at any time; nobody knows when
        if self.course.idle is Idle.KEEP:
            return 2 * count + next(
                (i for i, (_, run) in enumerate(self._uses) if run.component == name), count
            )
        return None


def _name(component: str, entry: str) -> str:
    return f"{component}.{entry}" if entry else component
