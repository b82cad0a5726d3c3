"""What a call is told to depart from: no call that a walk admits is, and what certainly runs is missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from models import plan, stage, target

from planner.graph.build import build_graph
from planner.graph.model import Run
from planner.plan.model import Plan
from planner.schedule.course import course_of
from planner.schedule.guide import Guide
from planner.target import catalogue
from planner.target.model import Target

SIZES: dict[str, int | None] = dict.fromkeys(("a", "b", "vae", "net"), 1)


def told(made: Plan, known: Target, runs: Callable[[int, Run], bool], times: int = 2) -> list[str]:
    """Departures of a call that makes the walk's uses, those that ``runs`` says of, loops so many times."""
    graph, found = build_graph(made, known)
    assert graph is not None, found
    guide, said, at = Guide(course_of(graph, None, 0)), [], 0
    guide.start()
    for node in graph.walk:
        for _ in range(1 if node.loop is None else times):
            for number, run in enumerate(node.runs, at):
                if runs(number, run):
                    said.append(guide.enter(run.component, run.entry, ()).departure)
        at += len(node.runs)
    return [*filter(None, said), *guide.skipped()]


def everything(number: int, run: Run) -> bool:
    return True


def certain(number: int, run: Run) -> bool:
    return not run.optional


@pytest.mark.parametrize("version", catalogue.versions())
def test_a_call_that_the_walk_of_a_class_admits(version: str) -> None:
    """With all that may run, and with none of it; loops pass once or more often."""
    for name in catalogue.names(version):
        known = catalogue.find(name, version)
        assert known is not None
        if known.walk is None:
            continue
        for runs in (everything, certain):
            for times in (1, 3):
                assert told(plan(), known, runs, times) == [], name


def test_uses_that_a_class_has_under_a_condition_are_optional_in_any_plan() -> None:
    known = target(SIZES, walk=["a+vae.encode~+b", "net*", "vae.decode?"])
    written = [stage("x", "a vae.encode b"), stage("y", "net", loop="steps"), stage("z", "vae.decode")]
    for made in (plan(), plan(written), plan("a -> vae.encode -> b -> net -> vae.decode")):
        assert told(made, known, lambda _, run: run.entry != "encode") == []
        assert told(made, known, lambda _, run: run.component != "b") == ["b"]
    assert told(plan(), known, certain) == []
    assert told(plan(written), known, lambda _, run: run.component != "vae") == ["vae.decode"]


@pytest.mark.parametrize(
    ("walk", "left_out", "expected"),
    [
        (["net*", "net*", "net*", "vae.decode"], {1, 2}, []),  # one loop more looks like one step more
        (["net*", "net*", "vae.decode"], {2}, ["vae.decode"]),
        (["a+net*", "net*", "vae"], {2}, []),
        (["net*", "a+net*", "vae"], {1, 2}, ["a"]),
        (["net*", "vae", "net*"], {2}, ['net in "net"']),
        (["net*", "vae?", "net*"], {1, 2}, []),
        (["net", "net"], {1}, ['net in "net"']),
        (["net", "net*", "vae"], {1}, ['net in "net"']),
    ],
)
def test_what_did_not_run(walk: Sequence[str], left_out: set[int], expected: list[str]) -> None:
    known = target(SIZES, walk=walk)
    assert told(plan(), known, lambda number, _: number not in left_out) == expected
