"""Which card a verb speaks of: one that is asked for, the one that is here, or none."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from planner.diagnostics.diagnostic import PlanError
from planner.plan.model import Plan
from planner.plan.units import amount
from planner.report.model import DeviceInfo
from planner.schedule.card import IMAGINED, SIMULATED, Card, imagined
from planner.source.text import Span

NODES = ("nvidia[0-9]*", "nvidiactl", "dxg", "kfd", "dri/renderD*", "accel*", "davinci*")
"""Under /dev, on Linux: where none of these is, torch finds no accelerator, and need not be imported."""


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Card:
        found = amount(str(value), Span(file="--card", line=1, column=1))
        if found is None or found.bytes is None:
            self.fail(f'expected the size of a card, such as 12GiB, found "{value}"', param, ctx)
        return imagined(found.bytes)


card_type = _Size()
card_option = click.option(
    "--card", type=card_type, metavar="SIZE", help="For a card of this size (12GiB), whatever is here."
)


def card_of(plan: Plan, asked: Card | None) -> Card:
    """The card that is ``asked`` for; else the one that ``plan`` would run on here; else the one of
    ``--simulate``, named as what it is."""
    if asked is not None:
        return asked
    there = found(plan) if _may_have_one() and find_spec("torch") is not None else None
    return there or replace(
        SIMULATED, kind="(no card found here; --card SIZE for another)", free=SIMULATED.free
    )


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
