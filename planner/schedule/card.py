"""A card to compile for, there or imagined: how much of it a plan may hold, by the rules that a run keeps."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Protocol

from planner.cards.data import CardData
from planner.cards.shipped import card_at
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p7_session import BUDGET_LOWERED
from planner.diagnostics.table.p9_card import NO_SUCH_CARD
from planner.plan.model import Plan
from planner.plan.units import amount
from planner.schedule.fit import gib
from planner.source.text import Span

CONTEXT = 760 << 20
MAPPED = 256
"""Bytes of a CUDA context with the libraries that a pipeline loads, and host bytes whose registration takes
one more: torch's allocator does not count them and the driver shows them. 781 MiB were measured with 6.5 GiB
registered, 859 to 885 with 31.4, on an H100 with torch 2.11 and CUDA 13."""
IMAGINED = "--card"
"""The name of a card that nobody has to have."""
LEFT_FREE = 1 << 30 if sys.platform == "win32" else 1 << 29
"""Bytes that are left to others where the plan does not say ``leave_free``."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: ``budget`` for the process as the driver sees it, None where nothing limits it; ``overhead`` of
    them not for weights."""

    budget: int | None
    overhead: int


class Place(Protocol):
    """What a plan can be compiled for."""

    @property
    def data(self) -> CardData | None:
        """Its rates, link and kernels, None where nobody knows them."""

    def room(self, plan: Plan, weights: int) -> tuple[Room, list[Diagnostic]]:
        """What ``plan`` has there beside ``weights`` bytes in host memory; a warning where that is less than
        it asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """``total`` bytes, ``free`` of them before the process has anything there; both None where the backend
    does not say. ``context``: bytes that the process takes before any weight; ``held``: by torch's allocator
    now; ``left``: bytes that stay free; ``data``: its rates, link and
    kernels, None where nobody knows them."""

    name: str
    kind: str | None = None
    total: int | None
    free: int | None
    context: int = 0
    held: int = 0
    left: int = 0
    data: CardData | None = None

    def room(self, plan: Plan, weights: int) -> tuple[Room, list[Diagnostic]]:
        """The plan's ``budget.vram``, at most what is free less ``leave_free``."""
        asked = plan.budget.vram
        wanted = asked.of(self.total) if asked is not None else None
        overhead = self.context + weights // MAPPED if self.context else 0
        if self.free is None:
            return Room(wanted, overhead), []
        leave = plan.budget.leave_free.of(self.total) if plan.budget.leave_free is not None else None
        ceiling = max(0, self.free - (self.left if leave is None else leave))
        if asked is None or wanted is None or wanted <= ceiling:
            return Room(ceiling if wanted is None else wanted, overhead), []
        said = f"the plan's {asked.text} is more than is free here less what is left free: {gib(ceiling)}"
        return Room(ceiling, overhead), [
            finding(BUDGET_LOWERED, said, span=plan.place("/budget/vram"), pointer="/budget/vram")
        ]


@dataclass(frozen=True, slots=True)
class Here:
    """Where a session is: what there is for it was found out already."""

    found: Room
    data: CardData | None = None

    def room(self, plan: Plan, weights: int) -> tuple[Room, list[Diagnostic]]:
        """As it was found."""
        return self.found, []


def imagined(total: int) -> Card:
    """A CUDA card of so many bytes, with nothing else on it."""
    return Card(name=IMAGINED, total=total, free=total, context=CONTEXT, left=LEFT_FREE)


def imagined_as(data: CardData) -> Card:
    """A card that is known by its data, with nothing else on it."""
    kind = data.name if data.source == "measured" else f"{data.name} ({data.source})"
    return Card(
        name=IMAGINED,
        kind=kind,
        total=data.total,
        free=data.total,
        context=data.context,
        left=LEFT_FREE,
        data=data,
    )


def card_for(said: str) -> Card:
    """The card of this name (``rtx-4090``), of a card's file, or one of so much memory (``12GiB``), with
    nothing else on it. Raises PlanError."""
    size = amount(said, Span(file=IMAGINED, line=1, column=1))
    if size is not None and size.bytes is not None:
        return imagined(size.bytes)
    if _NAMED.match(said):
        return imagined_as(card_at(said))
    wrong = f'expected a card\'s name (rtx-4090), its file, or a size such as 12GiB, found "{said}"'
    raise PlanError([finding(NO_SUCH_CARD, wrong)])


_NAMED = re.compile(r"[A-Za-z./~\\]|\d+[A-Za-z0-9_ -]*\.ya?ml\Z")
"""How names and paths begin: what begins with a number and is no size is a size that is wrong."""

SIMULATED = Card(name="sim:0", kind="virtual accelerator", total=80 << 30, free=80 << 30)
"""Where ``--simulate`` runs."""
