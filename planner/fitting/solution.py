"""One pipeline in one memory: what is open, searched, with the bound and what else there was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from planner.api import compile
from planner.cards.data import CardData
from planner.fitting.bound import Bounds, held, lower
from planner.fitting.choices import LEVELS, Choice, Settings, Space, space_of, stream_of
from planner.fitting.phases import Problem, blocks_of, problem_of
from planner.fitting.price import Objective, Price, Pricer, Refused
from planner.fitting.search import ALL, MOST, Found, NothingFits, Search
from planner.fitting.watch import NOBODY, Watch
from planner.loading.known import Given
from planner.plan.model import Idle, Plan, Policy
from planner.predict.call import outcome
from planner.predict.forecast import Outcome
from planner.predict.profile import CallProfile
from planner.predict.replays import Replays
from planner.schedule.card import Here, Place, Room
from planner.stages.results import Compiled

PLENTY = 1 << 50
"""Bytes: of a budget that bounds nothing."""
SAME = 0.001
"""Of the cost: what gains less is not written down, since no forecast is so exact."""
NEAR = (1 / 16, 1 / 32, -1 / 32, -1 / 16)
"""By how much of a component, more and less, the amounts are that are tried last."""


@dataclass(frozen=True, slots=True)
class Solution:
    """``found``: the best plan; ``bound``: microseconds that any plan for this call and memory takes at
    least, by the same cost model; ``others``: what else each subject could have been, all else as it is;
    ``problem``: of which ``bound`` is."""

    found: Found
    bound: int
    others: Mapping[str, Sequence[tuple[Choice, Price | Refused]]]
    problem: Problem

    @property
    def price(self) -> Price:
        """Of the best plan."""
        return self.found.price

    @property
    def gap(self) -> float:
        """By which share the best plan takes longer than the bound."""
        return self.price.cost / self.bound - 1 if self.bound else 0.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """``plan``: what is said already; ``call``: of it, traced; ``card``: whose rates and memory count;
    ``data``: the rates; ``target``: what the plan is for, None for what it names; ``idle``: what may be
    chosen; ``tight``: as for ``Pricer``; ``levels``, ``everything``, ``most``: how finely and how far is
    searched; ``replays``: of plans for ``call``, whatever the memory; ``watch``: is told what is done."""

    plan: Plan
    call: CallProfile
    card: Place
    data: CardData
    objective: Objective = "steady"
    idle: tuple[Idle, ...] = (Idle.RELEASE, Idle.KEEP)
    target: Any = None
    catalogue: Given = ()
    tight: bool = False
    levels: int = LEVELS
    everything: int = ALL
    most: int = MOST
    replays: Replays = field(default_factory=Replays, compare=False, repr=False)
    watch: Watch = field(default=NOBODY, compare=False, repr=False)

    def compiled(self, settings: Settings = ()) -> Compiled:
        """The plan with ``settings``. Raises PlanError."""
        said = [f"{key}={value}" for key, value in settings]
        return compile(
            self.plan,
            self.target,
            overrides=said,
            card=self.card,
            call=self.call,
            catalogue=self.catalogue,
            advice=False,
        )

    def alike(self, **changes: Any) -> Task:
        """With another ``card``, ``tight`` or limits of the search: what the plan is where there is room for
        everything is worked out once for all of them."""
        _ = self.unhindered
        made = replace(self, **changes)
        made.__dict__.update({name: self.__dict__[name] for name in ("unbounded", "unhindered")})
        return made

    def within(self, room: Room) -> Task:
        """The same in other memory. Raises PlanError."""
        return self.alike(card=Here(room, self.data))

    @property
    def residents(self) -> bool:
        """Whether components may be placed for good: not where the device is to be empty between calls."""
        return Idle.KEEP in self.idle

    @cached_property
    def unbounded(self) -> Compiled:
        """The plan where there is room for everything. Raises PlanError."""
        return compile(
            self.plan,
            self.target,
            overrides=["idle=keep"],
            card=Here(Room(PLENTY, 0), self.data),
            call=self.call,
            catalogue=self.catalogue,
        )

    @cached_property
    def unhindered(self) -> Outcome:
        """Of ``unbounded``. Raises PlanError."""
        free = self.unbounded
        assert free.call is not None
        return outcome(free.graph, free.schedule, free.call, self.data, self.replays)

    @cached_property
    def room(self) -> Room:
        """What there is on the card. Raises PlanError."""
        return self.card.room(self.plan, self.unbounded.target.bytes)[0]

    @property
    def budget(self) -> int | None:
        """Bytes for weights and activations on the card. Raises PlanError."""
        return None if self.room.budget is None else max(0, self.room.budget - self.room.overhead)

    def pricer(self) -> Pricer:
        """Of plans for it. Raises PlanError."""
        return Pricer(
            self.compiled,
            self.objective,
            self.room.budget,
            tight=self.tight,
            replays=self.replays,
            watch=self.watch,
        )


def problem_for(task: Task) -> Problem:
    """What any plan for it has to do in the memory that there is. Raises PlanError."""
    free = task.unbounded
    return problem_of(
        free.graph,
        free.schedule,
        task.call,
        task.data,
        budget=task.budget,
        cycle=task.objective == "steady" and Idle.KEEP in task.idle,
        placed=task.residents,
        seconds=task.unhindered.seconds,
    )


def space_for(task: Task, problem: Problem) -> Space:
    """What is open, with the amounts of the linear program's solution."""
    free = task.unbounded
    space = space_of(
        task.plan,
        free.graph,
        task.budget,
        idle=task.idle,
        levels=task.levels,
        residents=task.residents,
    )
    return _with_solution(space, free, problem)


def least_cost(task: Task) -> int:
    """Microseconds that any plan takes at least. Raises PlanError."""
    return lower(problem_for(task))


def solve_task(task: Task) -> Solution:
    """Raises PlanError where the plan does not compile wherever it runs, NothingFits where it does not
    here."""
    free, problem = task.unbounded, problem_for(task)
    space, pricer, bounds = space_for(task, problem), task.pricer(), Bounds(problem)
    least = lower(problem)
    task.watch.bounded(least)
    enough = int(least * (1 + SAME / 2))
    search = Search(space, pricer, bounds)
    found = search.run([*starts_of(space)], everything=task.everything, most=task.most, enough=enough)
    if not found.whole:
        space = _finer(found, free)
        search = Search(space, pricer, bounds)
        here = tuple(of.index(choice) for of, choice in zip(space, found.choices, strict=True))
        found = search.run([here], everything=0, most=task.most, enough=enough)
    found = search.simplest(found, SAME)
    others = search.beside(found)
    bound = min(least, found.price.cost)
    return Solution(found, bound, others, problem)


def fits(task: Task) -> tuple[bool, int]:
    """Whether ``solve_task`` finds a plan, and how many were priced for that. Raises PlanError as it does."""
    problem = problem_for(task)
    space = space_for(task, problem)
    search = Search(space, task.pricer(), Bounds(problem))
    try:
        search.run([*starts_of(space)], everything=task.everything, most=task.most, first=True)
    except NothingFits:
        return False, len(search.prices)
    return True, len(search.prices)


def starts_of(space: Space) -> Iterator[tuple[int, ...]]:
    """Everything as far as it is on the device whole; the amounts of the linear program; what holds the
    least."""
    for kept in range(len(space[-1])) if space and space[-1][0].subject == "idle" else (None,):
        for rank in RANKS:
            point = [of.index(min(of, key=rank)) for of in space]
            if kept is not None:
                point[-1] = kept
            yield tuple(point)


def _whole(choice: Choice) -> int:
    return choice.said.get("policy") != Policy.OFFLOAD.value


def _solved(choice: Choice) -> int:
    return not choice.solved


def _least(choice: Choice) -> tuple[int, bool, int, bool]:
    """Of amounts that are as large with their ring as all of it, and what is left to the compiler, the
    smallest amount."""
    streams = choice.said.get("policy") == Policy.STREAM.value
    return choice.always + choice.high, not choice.exact, choice.amount, not streams


RANKS: tuple[Callable[[Choice], Any], ...] = (_whole, _solved, _least)


def _with_solution(space: Space, free: Compiled, problem: Problem) -> Space:
    """With the amounts of the linear program's solution among the choices."""
    amounts = held(problem)
    made = []
    for of in space:
        name = of[0].subject
        if name in amounts and any(choice.exact for choice in of):
            part, blocks = problem.parts[name], blocks_of(free.graph, name)
            assert blocks is not None
            ring = 2 * max(blocks.streamable)
            if part.low + ring < amounts[name] < part.size:
                of = (*of, replace(stream_of(name, blocks, amounts[name] - ring), solved=True))
        made.append(of)
    return tuple(made)


def _finer(found: Found, free: Compiled) -> Space:
    """With amounts around those that were found."""
    made = []
    for of, choice in zip(found.space, found.choices, strict=True):
        blocks = blocks_of(free.graph, choice.subject) if choice.exact else None
        if blocks is not None:
            policy = Policy.STREAM if "policy" in choice.said else None
            amounts = (choice.amount + int(sum(blocks.streamable) * share) for share in NEAR)
            near = (stream_of(choice.subject, blocks, n, policy) for n in amounts if 0 < n < blocks.bytes)
            of = tuple(dict.fromkeys((*of, *near)))
        made.append(of)
    return tuple(made)
