"""How few seconds any plan could take, with some of its choices made: by the linear program's multipliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from planner.fitting.choices import Choice
from planner.fitting.phases import Part, Problem
from planner.fitting.relaxed import (
    Program,
    held_before,
    held_in,
    least,
    program_of,
    proven,
    reduced_by,
)
from planner.fitting.solver import NoSolution, Solved, solve

NEVER = 1 << 62
"""Microseconds: of choices that leave no room."""
NANOS = 1000
"""In a microsecond."""
SMALL = 512
"""Columns: a program of more takes longer to solve than a plan to price."""


def with_choices(problem: Problem, choices: Sequence[Choice]) -> Problem:
    """The problem with the choices of some components made."""
    parts = dict(problem.parts)
    for choice in choices:
        if choice.subject in parts and choice.high:
            parts[choice.subject] = _chosen(parts[choice.subject], choice)
    return replace(problem, parts=parts)


def _chosen(part: Part, choice: Choice) -> Part:
    return replace(
        part,
        low=max(part.low, choice.low),
        high=min(part.high, choice.high),
        always=max(part.always, choice.always),
    )


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


class Bounds:
    """Of plans of one problem, by their choices.

    Choices bound columns of the program and change no row, so that the multipliers of the problem with none
    made prove something of every choice, and of several the sum: that is quick, and less than what
    multipliers of their own prove.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._program: Program | None = None
        self._reduced: list[Fraction] = []
        self._base = NEVER * NANOS
        try:
            self._program, made = solved(problem)
        except NoSolution:
            return
        total, self._reduced = reduced_by(self._program, made.multipliers)
        columns = zip(self._reduced, self._program.lower, self._program.upper, strict=True)
        self._base = _nanos(total + sum(least(*column) for column in columns))

    def quick(self, more: int) -> int:
        """Microseconds that any plan takes at least whose choices take ``more`` nanoseconds, together."""
        return min(NEVER, (self._base + more) // NANOS)

    def more(self, choice: Choice) -> int:
        """Nanoseconds that a choice adds to what is proven."""
        problem, program = self._problem, self._program
        part = problem.parts.get(choice.subject)
        if part is None or program is None or not choice.high:
            return 0
        name, chosen, found = choice.subject, _chosen(part, choice), Fraction(0)
        columns = [(program.held[name, at], held_in(chosen, p, name)) for at, p in enumerate(problem.phases)]
        if name in program.begun:
            columns.append((program.begun[name], held_before(chosen)))
        for column, (low, high) in columns:
            if low > high:
                return NEVER * NANOS
            before = least(self._reduced[column], program.lower[column], program.upper[column])
            found += least(self._reduced[column], low, high) - before
        return _nanos(found)

    def exact(self, choices: Sequence[Choice]) -> int:
        """Microseconds, by multipliers of their own; 0 where those take longer than to price a plan."""
        program = self._program
        return lower(self._problem, choices) if program is None or len(program.cost) <= SMALL else 0


def _nanos(seconds: Fraction) -> int:
    return math.floor(seconds * 10**6 * NANOS)
