"""The budget that a finding suggests: with it the plan fits, with one unit less it does not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MIB, at, plan, stage, target

from planner.diagnostics.diagnostic import Diagnostic, errors
from planner.graph.build import build_graph
from planner.passes.residency import residency
from planner.plan.model import Amount, Plan, Policy
from planner.schedule.lower import lower
from planner.target.model import Target

SET = re.compile(r"--set budget\.vram=(\d+)(B|KiB|MiB) is the least that fits")
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
NAMES = ["a", "b", "c", "d"]


def found(made: Plan, known: Target, vram: int, overhead: int = 0) -> tuple[Diagnostic, ...]:
    """What lowering says with a budget of ``vram`` bytes that the plan asks for."""
    budget = replace(made.budget, vram=Amount(bytes=vram, text="x", span=at(3)))
    graph, _ = build_graph(replace(made, budget=budget), known)
    assert graph is not None
    graph, _ = residency(graph, None, overhead)
    return errors(lower(graph, overhead=overhead)[1])


def suggested(problems: tuple[Diagnostic, ...]) -> tuple[int, int]:
    """Bytes, and those of its unit. All findings say the same."""
    said = {m.groups() for d in problems if (m := SET.search(d.hint))}
    assert len(said) == 1, [d.hint for d in problems]
    ((number, unit),) = said
    return int(number) * SIZES[unit], SIZES[unit]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Plan, Target, int]:
    sizes = {name: draw(st.integers(1, 40)) for name in NAMES}
    policies = {
        name: draw(st.sampled_from([Policy.OFFLOAD, Policy.RESIDENT, Policy.STREAM]))
        for name in draw(st.sets(st.sampled_from(NAMES), max_size=2))
    }
    blocks = draw(st.sets(st.sampled_from(NAMES))) | {n for n, p in policies.items() if p is Policy.STREAM}
    loop = draw(st.sampled_from(["c", "b c", "b c d"]))
    walk = [stage("one", "a b"), stage("loop", loop, loop="steps"), stage("end", "d")]
    semantics = "diffusers" if not policies and draw(st.booleans()) else "liveness"
    made = plan(
        " -> ".join(NAMES) if semantics == "diffusers" else walk,
        policies=policies,
        semantics=semantics,
        idle=draw(st.sampled_from(["release", "keep"])) if semantics == "liveness" else "release",
    )
    return made, target(sizes, in_blocks=sorted(blocks)), draw(st.integers(0, 3)) * 700_000


@settings(max_examples=150)
@given(cases(), st.integers(1, 50))
def test_following_the_suggestion_fits_and_a_unit_less_does_not(
    case: tuple[Plan, Target, int], vram: int
) -> None:
    made, known, overhead = case
    problems = found(made, known, vram * MIB, overhead)
    if not problems:
        return
    least, unit = suggested(problems)
    assert found(made, known, least, overhead) == ()
    assert found(made, known, least - unit, overhead) != ()


def test_several_errors_say_one_value_and_each_its_stage() -> None:
    made = plan([stage("one", "a"), stage("two", "b", loop="steps")])
    problems = found(made, target({"a": 20, "b": 30}), 10 * MIB)
    assert [d.code.name for d in problems] == ["component-too-large"] * 2
    assert suggested(problems) == (30 * MIB, MIB)
    assert ['of stage "one"' in problems[0].message, 'of stage "two"' in problems[1].message] == [True, True]


@pytest.mark.parametrize(
    ("made", "blocks", "words"),
    [
        (plan("a"), [], "needs 20.00 MiB, and has no blocks that could be streamed"),
        (plan("a"), ["a"], "needs 2.00 MiB even streamed"),
        (plan("a", policies={"a": Policy.OFFLOAD}), ["a"], "needs 20.00 MiB under policy: offload"),
        (plan("a", policies={"a": Policy.RESIDENT}), ["a"], "needs 20.00 MiB under policy: resident"),
        (
            plan("b", exclude=["a"]),
            [],
            'component "a", which is in no stage, needs 20.00 MiB, and is excluded',
        ),
    ],
)
def test_only_a_policy_that_somebody_wrote_is_blamed(made: Plan, blocks: list[str], words: str) -> None:
    (problem,) = found(made, target({"a": 20, "b": 1}, in_blocks=blocks), 3 * MIB // 2)
    assert words in problem.message


def test_a_card_that_is_too_small_is_not_set_away() -> None:
    graph, _ = build_graph(plan("a"), target({"a": 20}))
    assert graph is not None
    _, problems = lower(graph, budget=10 * MIB)
    assert problems[-1].hint.startswith("20MiB is the least that fits: a larger card")
