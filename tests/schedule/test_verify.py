"""The replay: it accepts what the compiler makes, and finds what is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MIB, plan, stage, target

from planner.graph.build import build_graph
from planner.graph.model import Graph
from planner.plan.model import Plan, Policy, Stage
from planner.schedule.lower import lower
from planner.schedule.model import Schedule, Step
from planner.schedule.verify import verify
from planner.target.model import Target

NAMES = ("a", "b", "c", "d", "e")


@st.composite
def stages(draw: st.DrawFn, depth: int = 2) -> list[Stage]:
    made: list[Stage] = []
    for number in range(draw(st.integers(1, 4))):
        after = None
        if bool(made) and draw(st.booleans()):
            after = draw(st.lists(st.sampled_from([s.id for s in made]), unique=True))
        runs = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
        loop = draw(st.sampled_from([None, None, "steps", "3"]))
        optional = draw(st.integers(0, 5)) == 0
        inside = draw(stages(depth=depth - 1)) if depth and draw(st.integers(0, 5)) == 0 else None
        made.append(
            stage(
                f"s{number}",
                inside or " ".join(runs),
                loop=loop,
                after=after,
                optional=optional and not inside,
            )
        )
    return made


@st.composite
def problems(draw: st.DrawFn) -> tuple[Plan, Target]:
    sizes = {name: draw(st.integers(1, 50)) for name in NAMES}
    none = draw(st.lists(st.sampled_from(NAMES), max_size=1))
    diffusers = draw(st.integers(0, 3)) == 0
    order = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    made = plan(
        " ".join(order) if diffusers else draw(stages()),
        vram=draw(st.one_of(st.none(), st.integers(20, 260))),
        policies={}
        if diffusers
        else draw(st.dictionaries(st.sampled_from(NAMES), st.just(Policy.RESIDENT), max_size=1)),
        semantics="diffusers" if diffusers else "liveness",
        idle="release" if diffusers else draw(st.sampled_from(["release", "keep"])),
    )
    in_blocks = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return made, target(sizes, none=none, in_blocks=in_blocks)


@settings(max_examples=200)
@given(problems())
def test_the_replay_accepts_what_the_compiler_makes(problem: tuple[Plan, Target]) -> None:
    graph, _ = build_graph(*problem)
    assert graph is not None
    schedule, found = lower(graph)
    if schedule is None:
        assert any(d.severity.value == "error" for d in found)
        return
    assert verify(schedule, graph) == ()


@settings(max_examples=200)
@given(problems())
def test_a_budget_is_refused_only_when_something_needs_more(problem: tuple[Plan, Target]) -> None:
    """With room for everything at once, every plan compiles."""
    made, known = problem
    everything = sum(info.bytes or 0 for info in known.components.values())
    graph, _ = build_graph(made, known)
    assert graph is not None
    schedule, found = lower(graph, budget=everything)
    assert schedule is not None, found


@settings(max_examples=100)
@given(problems(), st.sets(st.sampled_from(NAMES), min_size=1))
def test_the_replay_accepts_it_whatever_sizes_are_known(
    problem: tuple[Plan, Target], unknown: set[str]
) -> None:
    made, known = problem
    infos = {n: replace(c, bytes=None) if n in unknown else c for n, c in known.components.items()}
    graph, _ = build_graph(made, replace(known, components=infos))
    assert graph is not None
    schedule, _ = lower(graph)
    if schedule is not None:
        assert verify(schedule, graph) == ()


def _compiled() -> tuple[Schedule, Graph]:
    stages = [
        stage("prompt", "a b"),
        stage("image", "d.encode"),
        stage("denoise", "c e", loop="steps"),
        stage("decode", "d.decode"),
    ]
    known = target({"a": 10, "b": 20, "c": 100, "d": 15, "e": 30}, in_blocks="c")
    graph, _ = build_graph(plan(stages, vram=130), known)
    assert graph is not None
    schedule, _ = lower(graph)
    assert schedule is not None
    return schedule, graph


def _dropped(do: str) -> Callable[[tuple[Step, ...]], tuple[Step, ...]]:
    def drop(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        at = next(i for i, step in enumerate(steps) if step.do == do)
        return steps[:at] + steps[at + 1 :]

    return drop


def _swapped(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return (steps[1], steps[0], *steps[2:])


def _evict_in_a_loop(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    at = next(i for i, step in enumerate(steps) if step.component == "c" and step.do == "use")
    gone = replace(steps[at], do="evict", after=(steps[at].after or 0) - 100 * MIB)
    return (*steps[: at + 1], gone, *steps[at + 1 :])


def _less_early(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    at = next(i for i, step in enumerate(steps) if step.do == "prefetch")
    early = replace(steps[at], bytes=(steps[at].bytes or 0) - 1, after=(steps[at].after or 0) - 1)
    return (*steps[:at], early, *steps[at + 1 :])


def _rest_dropped(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    at = next(i for i, step in enumerate(steps) if step.do == "load" and step.component == "c")
    return steps[:at] + steps[at + 1 :]


def _wrong_bytes(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return (replace(steps[0], after=1), *steps[1:])


@pytest.mark.parametrize(
    "break_it",
    [
        *map(_dropped, ("load", "prefetch", "evict", "use")),
        *(_swapped, _evict_in_a_loop, _wrong_bytes, _less_early, _rest_dropped),
    ],
    ids=[
        *("no load", "no prefetch", "no evict", "no use", "use before load", "evicted in a loop"),
        *("wrong bytes", "less came early", "the rest did not come"),
    ],
)
def test_what_is_broken_is_found(break_it: Callable[[tuple[Step, ...]], tuple[Step, ...]]) -> None:
    schedule, graph = _compiled()
    assert verify(schedule, graph) == ()
    assert verify(replace(schedule, steps=break_it(schedule.steps)), graph) != ()


def test_a_peak_that_is_promised_too_low_is_found() -> None:
    schedule, graph = _compiled()
    assert verify(replace(schedule, peak=(schedule.peak or 0) - 1), graph) != ()


def test_a_budget_that_is_passed_is_found() -> None:
    schedule, graph = _compiled()
    course = replace(schedule.course, budget=120 * MIB)
    assert any("pass the budget" in fault for fault in verify(replace(schedule, course=course), graph))
