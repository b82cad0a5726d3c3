"""What a batch's sessions are told of a call before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from planner.api import profile, with_calibration
from planner.loading.calibrations import kept
from planner.plan.model import Plan
from planner.predict.profile import CallProfile
from planner.schedule.card import SIMULATED, Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """``call``: of one row, and its ``card``, with what was measured of both; None where there is none.
    ``why``: that it cannot be told, or that what was measured cannot be read."""

    call: CallProfile | None
    card: Card
    why: str = ""


def foretold(plan: Plan, card: Card) -> Foretold:
    """The call of ``plan.run`` on ``card``. In simulation nothing is told: its activations are no card's.
    Raises nothing for a call that does not let itself be traced."""
    if card.name == SIMULATED.name:
        return Foretold(call=None, card=card)
    try:
        call = profile(plan, kernels=None if card.data is None else card.data.kernels)
        calibration, found = kept(plan, call, card)
    except Exception as error:  # whatever a pipeline's own code raises
        why = f"activations are not predicted: {' '.join(str(error).split())}"
        return Foretold(call=None, card=card, why=why)
    if calibration is not None:
        call, card = with_calibration(call, card, calibration)
    return Foretold(call=call, card=card, why="; ".join(map(str, found)))
