"""A lower bound of a call's seconds: the problem as a linear program, and what any multipliers prove of it.

For a phase ``s``, a component ``c`` of ``B_c`` bytes that runs ``n`` times in it: ``h[c, s]`` of its bytes
are on the device. The first forward brings what was not there in the phase before, each later one what does
not stay; a component that does not run in a phase comes to have more only by copies:

    t[s] >= seconds computed in s
    t[s] >= sum over c in s of u_c (f[c, s] + l[c, s]) + sum of u_c q[c, s]
    f[c, s] >= F_c,s - h[c, s-1],  f >= 0           of the F_c,s bytes that the first forward computes with
    l[c, s] >= L_c,s - (n - 1) h[c, s],  l >= 0     of the L_c,s of all later ones: at most (n - 1) B_c
    q[c, s] >= h[c, s] - h[c, s-1],  q >= 0         for each c that does not run in s
    q[c, s] = 0                                     where c does not run later in the call either
    sum over c of h[c, s] <= room of s
    T >= sum over s of t[s]
    T >= seconds that the host hands out operations, and puts what was brought into its modules

with ``u_c`` the seconds a byte takes. ``T`` is at most the seconds of any plan: blocks are divisible here, a
ring of device memory counts as bytes that stay, and nothing waits for anything but the whole link.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from planner.fitting.phases import Part, Phase, Problem

UNIT = 1e9
"""Bytes: the program is in gigabytes and seconds, which solvers like."""
SWEEPS = 8


@dataclass(slots=True)
class Program:
    """``min cost x`` with ``lower <= x <= upper``, all finite, and for each row ``sum of row x >= right``.

    ``held``: the columns of ``h``, by component and phase; ``begun``: of what is there before the first
    phase, by component, where a call does not begin with what one before it left; ``links``: the rows of the
    link's time."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    rows: list[dict[int, float]] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    links: list[int] = field(default_factory=list)
    crowded: bool = False
    """Of some column the lower bound is above the upper, so that there is no solution."""

    def column(self, lower: float, upper: float, cost: float = 0.0) -> int:
        """A new variable's number."""
        self.crowded = self.crowded or lower > upper
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(max(lower, upper))
        return len(self.cost) - 1

    def row(self, coefficients: Mapping[int, float], right: float) -> None:
        """A new constraint."""
        self.rows.append({column: value for column, value in coefficients.items() if value})
        self.right.append(right)


def program_of(problem: Problem) -> Program:
    """The linear program of a problem."""
    made, parts, phases = Program(), problem.parts, problem.phases
    longest = (
        sum(
            (part.copy + part.bind) * part.size * (1 + sum(phase.forwards.get(name, 0) for phase in phases))
            for name, part in parts.items()
        )
        + problem.host
        + sum(phase.seconds for phase in phases)
    )
    for at, phase in enumerate(phases):
        for name, part in parts.items():
            made.held[name, at] = made.column(*held_in(part, phase, name))
    whole = made.column(problem.seconds, problem.seconds + longest, 1.0)
    device, host, fixed = {whole: 1.0}, {whole: 1.0}, problem.host
    if not problem.cycle:
        _start(made, problem)
    before = made.begun or {name: made.held[name, len(phases) - 1] for name in parts}
    for at, phase in enumerate(phases):
        time = made.column(phase.seconds, phase.seconds + longest)
        device[time] = -1.0
        link: dict[int, float] = {time: 1.0}
        right = 0.0
        for name, part in parts.items():
            now, then = made.held[name, at], before[name]
            rate = part.copy * UNIT
            if (times := phase.forwards.get(name, 0)) > 0:
                bind = part.bind * UNIT
                first, later = phase.reads[name]
                for there, often, reads in ((then, 1, first), (now, times - 1, later)):
                    if reads == often * part.size:  # what is there is never more
                        right += rate * reads / UNIT
                        link[there] = link.get(there, 0.0) + rate * often
                        fixed += bind * reads / UNIT
                        host[there] = host.get(there, 0.0) + bind * often
                    else:
                        brings = made.column(0.0, reads / UNIT)
                        made.row({brings: 1.0, there: float(often)}, reads / UNIT)
                        link[brings], host[brings] = -rate, -bind
            elif len(phases) > 1 and then != now:
                again = any(name in later.forwards for later in phases[at:])
                comes = made.column(0.0, part.size / UNIT if again else 0.0)
                made.row({comes: 1.0, now: -1.0, then: 1.0}, 0.0)
                link[comes] = -rate
        made.links.append(len(made.rows))
        made.row(link, right)
        if phase.room is not None:
            made.row({made.held[name, at]: -1.0 for name in parts}, -phase.room / UNIT)
        before = {name: made.held[name, at] for name in parts}
    made.row(device, 0.0)
    made.row(host, fixed)
    return made


def held_in(part: Part, phase: Phase, name: str) -> tuple[float, float]:
    """Bounds of what of a component is on the device in a phase."""
    runs = name in phase.forwards
    low = max(part.always, part.low if runs else 0)
    return low / UNIT, (part.high if runs else part.size) / UNIT


def held_before(part: Part) -> tuple[float, float]:
    """Bounds of what of a component is on the device before the first phase."""
    return part.always / UNIT, (part.size if part.placed else part.always) / UNIT


def _start(made: Program, problem: Problem) -> None:
    """What is there before the first phase, and so in all of them."""
    for name, part in problem.parts.items():
        made.begun[name] = made.column(*held_before(part))
        for at in range(len(problem.phases)):
            made.row({made.held[name, at]: 1.0, made.begun[name]: -1.0}, 0.0)


def proven(program: Program, multipliers: Sequence[float]) -> float:
    """Seconds: what ``multipliers``, one a row, prove that every solution takes at least.

    Weak duality: for any ``y >= 0``, ``y right + sum over columns of min((cost - y rows) x)`` over the
    columns' bounds. Computed exactly, so that it holds whatever made the multipliers.
    """
    total, reduced = reduced_by(program, multipliers)
    for cost, low, high in zip(reduced, program.lower, program.upper, strict=True):
        total += least(cost, low, high)
    return float(total)


def reduced_by(program: Program, multipliers: Sequence[float]) -> tuple[Fraction, list[Fraction]]:
    """``y right``, and of each column ``cost - y rows``."""
    reduced = [Fraction(value) for value in program.cost]
    total = Fraction(0)
    for multiplier, row, right in zip(multipliers, program.rows, program.right, strict=True):
        price = Fraction(max(0.0, multiplier)) if math.isfinite(multiplier) else Fraction(0)
        if not price:
            continue
        total += price * Fraction(right)
        for column, coefficient in row.items():
            reduced[column] -= price * Fraction(coefficient)
    return total, reduced


def least(cost: Fraction, low: float, high: float) -> Fraction:
    """Of ``cost x`` with ``low <= x <= high``."""
    return cost * Fraction(low if cost > 0 else high) if cost else Fraction(0)


def ascent(program: Program) -> list[float]:
    """Multipliers without a solver: each in turn where the bound is best, the others as they are; begun with
    the link that bounds nothing, and with the link that bounds all."""
    ways = [_climbed(program, dict.fromkeys(program.links, start)) for start in (0.0, 1.0)]
    return max(ways, key=lambda made: proven(program, made))


def _climbed(program: Program, start: Mapping[int, float]) -> list[float]:
    """The bound is concave in each multiplier, with its corners where a column's reduced cost is 0."""
    prices = [start.get(at, 0.0) for at in range(len(program.rows))]
    reduced = [*program.cost]
    for price, row in zip(prices, program.rows, strict=True):
        for column, value in row.items():
            reduced[column] -= price * value
    order = [*(at for at in range(len(prices)) if at not in start), *start]
    for _ in range(SWEEPS):
        before = list(prices)
        for at in order:
            row = program.rows[at]
            for column, value in row.items():
                reduced[column] += prices[at] * value
            prices[at] = _best(program, reduced, row, program.right[at])
            for column, value in row.items():
                reduced[column] -= prices[at] * value
        if prices == before:
            break
    return prices


def _best(program: Program, reduced: Sequence[float], row: Mapping[int, float], right: float) -> float:
    """From 0 upwards the bound's slope is ``right - row x``; it falls where a column goes to its other
    end."""
    slope = right
    corners = []
    for column, value in row.items():
        low, high = program.lower[column], program.upper[column]
        corner = reduced[column] / value
        at_low = reduced[column] > 0 or (reduced[column] == 0 and value < 0)
        slope -= value * (low if at_low else high)
        if corner > 0:
            corners.append((corner, abs(value) * (high - low)))
    if slope <= 0:
        return 0.0
    price = 0.0
    for corner, falls in sorted(corners):
        price = corner
        slope -= falls
        if slope <= 0:
            break
    return price
