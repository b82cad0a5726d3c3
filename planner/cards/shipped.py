"""The cards that ship beside this file, by name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from planner.cards.data import CardData
from planner.cards.read import read_card
from planner.diagnostics.diagnostic import Diagnostic, InternalError, PlanError, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table.p9_card import NO_SUCH_CARD

FOLDER = Path(__file__).parent


@cache
def names() -> tuple[str, ...]:
    """Names of the files, sorted: ``a100``, ``h200``, ``rtx-4090``."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def shipped_card(name: str) -> CardData:
    """One of ``names``. Raises InternalError for a file of ours that is wrong."""
    card, found, _ = read_card(FOLDER / f"{name}.yaml")
    if card is None:
        raise InternalError(f"{name}.yaml: {'; '.join(d.message for d in found)}")
    return card


def find_card(asked: str) -> tuple[CardData | None, list[Diagnostic]]:
    """The card of this name or alias, whatever its case, spaces, ``-`` and ``_``."""
    wanted = plain(asked)
    if (named := next((name for name in names() if plain(name) == wanted), None)) is not None:
        return shipped_card(named), []
    known: dict[str, CardData] = {}
    for name in names():
        card = shipped_card(name)
        known |= dict.fromkeys([plain(word) for word in (card.name, *card.aliases)], card)
    if wanted in known:
        return known[wanted], []
    near = nearest(wanted, map(plain, names()))
    meant = next((name for name in names() if plain(name) == near), None)
    hint = f'did you mean "{meant}"?' if meant else f"known: {', '.join(names())}; or a size, such as 12GiB"
    return None, [finding(NO_SUCH_CARD, f'no card is called "{asked}"', hint=hint)]


def card_at(said: str) -> CardData:
    """The card of a file's path, or of a name. Raises PlanError."""
    if said.endswith((".yaml", ".yml")) or "/" in said or "\\" in said:
        card, found, sources = read_card(Path(said).expanduser())
        if card is None:
            raise PlanError(found, sources)
        return card
    card, found = find_card(said)
    if card is None:
        raise PlanError(found)
    return card


def plain(name: str) -> str:
    """A name as it is compared: ``NVIDIA GeForce RTX 4090`` and ``rtx-4090`` are one."""
    return re.sub(r"[\s_-]+|nvidia|geforce", "", name.lower())
