"""Which card a verb speaks of: one that is asked for, the one that is here, or none."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from planner.diagnostics.diagnostic import PlanError
from planner.plan.model import Plan
from planner.report.model import DeviceInfo
from planner.schedule.card import IMAGINED, SIMULATED, Card, card_for

NODES = ("nvidia[0-9]*", "nvidiactl", "dxg", "kfd", "dri/renderD*", "accel*", "davinci*")
"""Under /dev, on Linux: where none of these is, torch finds no accelerator, and need not be imported."""


class _Card(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    name = "card"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Card:
        """Raises PlanError for a name that no card has, and for a card's file that is wrong."""
        return value if isinstance(value, Card) else card_for(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of the cards that ship; else files."""
        from planner.cards.shipped import names

        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


card_type = _Card()
card_option = click.option(
    "--card",
    type=card_type,
    metavar="NAME|FILE|SIZE",
    help="For this card, whatever is here: one that ships (rtx-4090), a card's file, or a size (12GiB).",
)


def card_of(plan: Plan, asked: Card | None) -> Card:
    """The card that is ``asked`` for; else the one that ``plan`` would run on here; else the one of
    ``--simulate``, named as what it is."""
    if asked is not None:
        return asked
    return here(plan) or replace(
        SIMULATED, kind="(no card found here; --card SIZE for another)", free=SIMULATED.free
    )


def here(plan: Plan) -> Card | None:
    """As ``found``, without importing torch where nothing can be found."""
    return found(plan) if _may_have_one() and find_spec("torch") is not None else None


def found(plan: Plan) -> Card | None:
    """The accelerator that ``plan`` would run on; None where there is none. Imports torch."""
    from planner.session.machine import card_on, pick_device

    try:
        return card_on(pick_device(plan))
    except PlanError:
        return None


def info_of(card: Card) -> DeviceInfo:
    """For a head line. Of a card that is only asked for, nobody says what is free."""
    free = None if card.free is None or card.name == IMAGINED else card.free - card.context - card.held
    return DeviceInfo(name=card.name, kind=card.kind, total=card.total, free=free)


def _may_have_one() -> bool:
    return not sys.platform.startswith("linux") or any(
        next(Path("/dev").glob(name), None) is not None for name in NODES
    )
