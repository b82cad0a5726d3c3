"""How few seconds any plan could take, with some of its choices made: by the linear program's multipliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from planner.fitting.choices import Choice
from planner.fitting.phases import Problem
from planner.fitting.relaxed import Program, program_of, proven
from planner.fitting.solver import NoSolution, Solved, solve

NEVER = 1 << 62
"""Microseconds: of choices that leave no room."""


def with_choices(problem: Problem, choices: Sequence[Choice]) -> Problem:
    """The problem with the choices of some components made."""
    parts = dict(problem.parts)
    for choice in choices:
        if choice.subject in parts and choice.high:
            part = parts[choice.subject]
            parts[choice.subject] = replace(
                part,
                low=max(part.low, choice.low),
                high=min(part.high, choice.high),
                always=max(part.always, choice.always),
            )
    return replace(problem, parts=parts)


def solved(problem: Problem) -> tuple[Program, Solved]:
    """Raises NoSolution."""
    program = program_of(problem)
    return program, solve(program)


def lower(problem: Problem, choices: Sequence[Choice] = ()) -> int:
    """Microseconds; NEVER where there is no room for the choices."""
    try:
        program, made = solved(with_choices(problem, choices))
    except NoSolution:
        return NEVER
    return math.floor(max(proven(program, made.multipliers), problem.seconds) * 1e6)


def held(problem: Problem) -> dict[str, int]:
    """By component, how many bytes of it are on the device while it runs in the program's solution; {} where
    there is none."""
    try:
        program, made = solved(problem)
    except NoSolution:
        return {}
    if not made.values:
        return {}
    least: dict[str, int] = {}
    for at, phase in enumerate(problem.phases):
        for name in phase.forwards:
            here = int(made.values[program.held[name, at]] * 1e9)
            least[name] = min(least.get(name, here), here)
    return least
