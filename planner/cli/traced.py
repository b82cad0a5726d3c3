"""``--activations``: the call of ``run``, traced on tensors without data for the card that is spoken of."""

from __future__ import annotations

import click

from planner.api import profile
from planner.models.match import model_of
from planner.plan.model import Plan
from planner.predict.profile import CallProfile
from planner.schedule.card import Card

activations_option = click.option(
    "--activations",
    is_flag=True,
    help="Trace run's call on tensors without data: what each use takes beside the weights, and with a "
    "--card of known rates the seconds. Needs torch, and the components' configs.",
)


def traced(plan: Plan, card: Card | None) -> CallProfile | None:
    """With the kernels of ``card``, a Hopper's where they are not known; None for a hub id of a model that
    ships: compiling takes what ships. Raises PlanError."""
    if model_of(plan) is not None:
        return None
    return profile(plan, kernels=None if card is None or card.data is None else card.data.kernels)
