"""The linear program solved by HiGHS (the extra ``[fit]``), where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from planner.fitting.relaxed import Program, ascent


@dataclass(frozen=True, slots=True)
class Solved:
    """``values`` of the columns, () where there was no solver; ``multipliers`` of the rows."""

    values: tuple[float, ...]
    multipliers: tuple[float, ...]


class NoSolution(Exception):
    """No solution: there is too little room."""


class SolverFailed(Exception):
    """HiGHS ended with another status than a solution, or none."""


def name() -> str:
    """``HiGHS 1.15.1``, or what stands in for it."""
    return f"HiGHS {metadata.version('highspy')}" if installed() else "no solver"


def installed() -> bool:
    """Whether there is a solver."""
    return find_spec("highspy") is not None


def _engine() -> Any:
    import highspy

    class Quiet(highspy.Highs):  # type: ignore[misc]  # it has no types
        """To enable callbacks prints a banner, before any option could say not to (1.16.0)."""

        def enableCallbacks(self) -> None:
            """None are used."""

    return Quiet()


def solve(program: Program) -> Solved:
    """A solution of ``program``, the same each time: one thread, a fixed seed, and no limit of time.

    Raises NoSolution, and SolverFailed for any status but these two: a second solve in one process is known
    to have returned nothing with no error.
    """
    if program.crowded:
        raise NoSolution
    if not installed():
        return Solved((), tuple(ascent(program)))
    import highspy
    import numpy

    made = _engine()
    made.setOptionValue("output_flag", False)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.cost), len(program.rows)
    lp.col_cost_ = numpy.array(program.cost)
    lp.col_lower_, lp.col_upper_ = numpy.array(program.lower), numpy.array(program.upper)
    lp.row_lower_ = numpy.array(program.right)
    lp.row_upper_ = numpy.full(len(program.rows), highspy.kHighsInf)
    starts: list[int] = [0]
    index: list[int] = []
    value: list[float] = []
    for row in program.rows:
        index += row.keys()
        value += row.values()
        starts.append(len(index))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = numpy.array(starts, dtype=numpy.int32)
    lp.a_matrix_.index_ = numpy.array(index, dtype=numpy.int32)
    lp.a_matrix_.value_ = numpy.array(value)
    passed = made.passModel(lp)
    made.setOptionValue("threads", 1)
    made.setOptionValue("random_seed", 0)
    made.setOptionValue("solver", "simplex")
    if passed == highspy.HighsStatus.kError or made.run() == highspy.HighsStatus.kError:
        raise SolverFailed("HiGHS refused the program")
    status = made.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        raise NoSolution
    if status != highspy.HighsModelStatus.kOptimal:
        raise SolverFailed(f"HiGHS ended with {made.modelStatusToString(status)}")
    found = made.getSolution()
    return Solved(tuple(found.col_value), tuple(found.row_dual))
