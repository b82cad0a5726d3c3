"""What a set of choices costs: compiled, and its call foretold by the engine that ``plan explain`` asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from planner.diagnostics.diagnostic import Diagnostic, PlanError, errors
from planner.fitting.choices import Settings
from planner.fitting.watch import NOBODY, Watch
from planner.predict.call import outcome
from planner.predict.clock import micros
from planner.predict.forecast import Outcome
from planner.predict.replays import Replays
from planner.stages.results import Compiled

Objective = Literal["steady", "first"]
MARGIN = 100
"""One of so many bytes of the budget, and at most MARGIN_MOST, stays free where an amount is written down:
forecasts of peaks were up to so much too low, and activations do not lower such an amount."""
MARGIN_MOST = 100_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """``cost``: microseconds of the call; ``compiled``: what it is of; ``outcome``: of its forecast."""

    cost: int
    compiled: Compiled
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """It does not fit: why, in words, with what the compiler said; ``found`` is empty where only the forecast
    has no room."""

    why: str
    found: tuple[Diagnostic, ...] = ()


class Pricer:
    """Prices of the plan that ``compiled`` makes, for settings. What compiles to the same is played once."""

    def __init__(
        self,
        compiled: Callable[[Settings], Compiled],
        objective: Objective,
        budget: int | None,
        *,
        tight: bool = False,
        replays: Replays | None = None,
        watch: Watch = NOBODY,
    ) -> None:
        """``budget``: bytes that the driver may show, None where nothing limits them; ``tight``: plans count
        too in which an allocation is tried twice, and libraries may do with less scratch; ``replays``: of
        other plans for the same call; ``watch``: is told of each plan."""
        self._compiled = compiled
        self._budget = budget
        self._tight = tight
        self._replays = Replays() if replays is None else replays
        self._watch = watch
        self._objective = objective
        self._said: dict[Settings, Price | Refused] = {}
        self._known: dict[str, Price | Refused] = {}

    def price(self, settings: Settings, *, exact: bool = False) -> Price | Refused:
        """``exact``: amounts are written down in it, so that a margin is left."""
        if settings not in self._said:
            new = self._said[settings] = self._found(settings)
            self._watch.priced(new.cost if isinstance(new, Price) else None)
        found = self._said[settings]
        return found if isinstance(found, Refused) or not exact else self._with_margin(found)

    def _found(self, settings: Settings) -> Price | Refused:
        try:
            made = self._compiled(settings)
        except PlanError as error:
            found = errors(error.diagnostics)
            return Refused(found[0].message, tuple(found))
        course = made.schedule.course
        key = repr((made.schedule.placements, course.idle, course.budget, course.fixed))
        if key not in self._known:
            self._known[key] = self._played(made)
        return self._known[key]

    def _played(self, made: Compiled) -> Price | Refused:
        if made.call is None or made.data is None:
            raise ValueError("a call that was not traced, or a card without rates")
        found = outcome(made.graph, made.schedule, made.call, made.data, self._replays)
        if found.short:
            return Refused("; ".join(f"{name}: the budget has no room for it" for name in found.short))
        if not (found.fits or self._tight):
            return Refused("an allocation finds too little beside the weights")
        seconds = found.seconds if self._objective == "steady" else found.first
        return Price(micros(seconds), made, found)

    def _with_margin(self, price: Price) -> Price | Refused:
        room = self._budget
        if room is None or price.outcome.peak <= room - min(room // MARGIN, MARGIN_MOST):
            return price
        return Refused("it leaves less than a hundredth of the budget free")
