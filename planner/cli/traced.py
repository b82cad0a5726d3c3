"""``--activations``, ``--calibrate``: the call of ``run``, traced on tensors without data for the card that
is spoken of, with what earlier runs measured of it."""

from __future__ import annotations

from dataclasses import dataclass

import click

from planner.api import profile, shipping, with_calibration
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.plan.model import Plan
from planner.predict.profile import CallProfile
from planner.schedule.card import Card

activations_option = click.option(
    "--activations",
    is_flag=True,
    help="Trace run's call on tensors without data: what each use takes beside the weights, and with a "
    "--card of known rates the seconds. Needs torch, and the components' configs.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """``call``: None where compiling finds it by itself, or there is none; ``plain``: the same, without what
    was measured; ``card``: with what was measured of it; ``found``: warnings."""

    call: CallProfile | None
    plain: CallProfile | None
    card: Card
    found: tuple[Diagnostic, ...] = ()


def traced(plan: Plan, card: Card | None) -> CallProfile | None:
    """With the kernels of ``card``, a Hopper's where they are not known. None for a hub id of a model that
    ships, unless its configs are here and the call is another than those that ship: compiling takes what
    ships. Raises PlanError."""
    kernels = None if card is None or card.data is None else card.data.kernels
    ships = shipping(plan, kernels)
    if ships is None:
        return profile(plan, kernels=kernels)
    if ships.exact:
        return None
    try:
        found = profile(plan, kernels=kernels)
    except PlanError:
        return None
    return None if found == ships.call else found


def foretold(plan: Plan, card: Card, *, trace: bool) -> Foretold:
    """As ``traced``, and as it was measured where ``plan apply --calibrate`` ran such a call on such a card.
    ``trace``: whether a call that does not ship is wanted. Raises PlanError."""
    from planner.loading.calibrations import kept

    call = traced(plan, card) if trace else None
    ships = shipping(plan, None if card.data is None else card.data.kernels)
    plain = ships.call if ships is not None and ships.exact else call
    if plain is None:
        return Foretold(call=None, plain=None, card=card)
    calibration, found = kept(plan, plain, card)
    if calibration is None:
        return Foretold(call=call, plain=plain, card=card, found=tuple(found))
    call, card = with_calibration(plain, card, calibration)
    return Foretold(call=call, plain=plain, card=card)


def untraced(card: Card, found: tuple[Diagnostic, ...] = ()) -> Foretold:
    """Nothing is foretold."""
    return Foretold(call=None, plain=None, card=card, found=found)
