"""A solution in words: why each choice, what else there was, and what is proven."""

from __future__ import annotations

from collections.abc import Iterator

from planner.diagnostics.table.p9_fit import TIGHT
from planner.fitting.choices import Choice
from planner.fitting.price import Price, Refused
from planner.fitting.solution import Solution
from planner.graph.model import Placement
from planner.plan.model import Idle, Policy
from planner.schedule.fit import gib

RETRIED = "an allocation is tried twice in every plan that was found"
TWICE = f"tight ({TIGHT.id}): {RETRIED}, and rounding may differ"


def reasons(solution: Solution) -> Iterator[tuple[str, str]]:
    """For each subject that was open: what it does now, and the best of what else it could."""
    compiled = solution.price.compiled
    for choice in solution.found.choices:
        if choice.subject == "idle":
            yield "idle", _idle(compiled.schedule.course.idle) + _beside(solution, choice)
            continue
        placement = compiled.schedule.placements[choice.subject]
        size = compiled.target.components[choice.subject].bytes or 0
        yield choice.subject, _does(placement, size, choice) + _beside(solution, choice)


def certificate(solution: Solution, card: str, solver: str, objective: str) -> tuple[str, ...]:
    """Lines: what is predicted and proven, for what, by what."""
    price, bound = solution.price, solution.bound
    call = "a call" if objective == "steady" else "the first call"
    whole = "all of what could be written" if solution.found.whole else "local search from several starts"
    near = f"within {_share(solution.gap)} of the bound of this cost model, {_seconds(bound)} s"
    if solution.gap < 0.0005:
        near = "which is the bound of this cost model"
    return (
        f"{_seconds(price.cost)} s predicted for {call}, {near}",
        f"at most {gib(price.outcome.peak)} as the driver shows it; {gib(price.outcome.moved)} are copied",
        *(() if price.outcome.fits else (TWICE,)),
        f"card {card}; {_arguments(solution)}",
        f"{solver}; {len(solution.found.prices)} plans compared, {whole}",
        *(() if price.compiled.call is None else price.compiled.call.notes),
    )


def _arguments(solution: Solution) -> str:
    call = solution.price.compiled.call
    said = {} if call is None else call.arguments
    shown = (f"{name} {value}" for name, value in said.items() if isinstance(value, (int, float, str)))
    steps = f"{call.steps} steps" if call is not None and call.steps else ""
    return ", ".join(
        filter(None, (*(one for one in shown if "prompt" not in one and "steps" not in one), steps))
    )


def _does(placement: Placement, size: int, choice: Choice) -> str:
    left = "" if choice.settings else ", as the compiler chooses"
    if placement.policy is Policy.RESIDENT:
        return f"placed once, {gib(size)}, and stays{left}"
    if placement.streams and placement.split is not None:
        kept = f"{gib(placement.split.resident)} of {gib(size)} stay while it runs"
        if not choice.exact:
            kept += ", or what activations leave"
        return f"{kept}, the other blocks come just in time{left}"
    return f"comes and goes whole, {gib(size)}{left}"


def _idle(idle: Idle) -> str:
    return "what fits stays between calls" if idle is Idle.KEEP else "the device is empty between calls"


def _beside(solution: Solution, choice: Choice) -> str:
    others = solution.others.get(choice.subject, ())
    priced = [(c, p) for c, p in others if isinstance(p, Price) and p.cost > solution.price.cost]
    if priced:
        other, price = priced[0]
        return f"; {_name(other, choice)}: {_seconds(price.cost)} s"
    refused = [(c, p) for c, p in others if isinstance(p, Refused)]
    if refused and len(refused) == len(others):
        return f"; {_name(refused[0][0], choice)}: does not fit"
    return "; as fast whatever it is" if others else ""


def _name(choice: Choice, chosen: Choice) -> str:
    said = choice.said
    if not said:
        return "release" if choice.subject == "idle" else "left to the compiler"
    policy = said.pop("policy", said.pop("idle", ""))
    more = " ".join(f"{key} {value}" for key, value in said.items())
    return " ".join(filter(None, (policy, more)))


def _seconds(micros: int) -> str:
    return f"{micros / 1e6:.2f}" if micros >= 1_000_000 else f"{micros / 1e6:.3f}"


def _share(value: float) -> str:
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
