"""The least memory in which a plan is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.fitting.choices import LEAST, Settings, space_of
from planner.fitting.price import Price
from planner.fitting.solution import PLENTY, Task
from planner.fitting.solution import fits as found_in
from planner.schedule.card import Room

MIB = 1 << 20
ENOUGH = 300
"""Plans that are priced for it."""


def least_budget(tasks: Sequence[Task]) -> int | None:
    """Bytes, in whole MiB: in them a plan for one of ``tasks`` is found, and in one MiB less none, or none
    among the first ``ENOUGH`` that were priced."""
    nearly = [one for one in map(_nearly, tasks) if one is not None]
    return None if not nearly else MIB * _turn(_Probe(tasks), min(nearly))


class _Probe:
    """Whether a plan is found in so many MiB; once enough was priced, it is not looked for any more."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        """``priced``: plans so far."""
        self.priced = 0
        self._tasks = tasks

    def __call__(self, mib: int) -> bool:
        if mib <= 0 or self.priced >= ENOUGH:
            return False
        for task in self._tasks:
            found, priced = found_in(_within(task, mib))
            self.priced += priced
            if found:
                return True
        return False


def _within(task: Task, mib: int) -> Task:
    return task.within(Room(mib * MIB, task.room.overhead))


def _turn(fits: _Probe, near: int) -> int:
    """The least MiB from which on ``fits`` holds, looked for from ``near`` outwards."""
    step, low, high = 1, near - 1, near
    while fits.priced < ENOUGH and not fits(high):
        low, high, step = high, high + step, 2 * step
    if low == near - 1:
        step = 1
        while fits(low):
            low, high, step = max(0, low - step), low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _nearly(task: Task) -> int | None:
    """MiB in which one of two plans fits, without a search; None where no memory is enough."""
    ways, overhead, weights = [*smallest(task)], task.room.overhead, task.unbounded.target.bytes

    def fits(mib: int) -> bool:
        there = _within(task, mib)
        pricer = there.pricer()
        return any(isinstance(pricer.price(settings), Price) for settings, _ in ways)

    low, high = 0, max(1, (overhead + 2 * weights) // MIB)
    while not fits(high):
        low, high = high, 2 * high
        if high * MIB > PLENTY:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def smallest(task: Task) -> Iterator[tuple[Settings, bool]]:
    """Settings that hold the least, and whether amounts are written down in them: all left to the compiler,
    and as much as can be streamed through. Raises PlanError."""
    yield (), False
    space = space_of(task.plan, task.unbounded.graph, 1, idle=(), residents=False)
    through = [next((c for c in of if c.said.get("resident") == LEAST), of[0]) for of in space]
    yield tuple(setting for choice in through for setting in choice.settings), True
