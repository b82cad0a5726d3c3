"""What a lock knows that its plan's files do not: sizes of a hub's pipeline, and the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.cards.shipped import find_card
from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.table.p3_target import SIZES_UNKNOWN
from planner.lock.content import CARD, DATA
from planner.lock.model import Lock
from planner.plan.model import Plan
from planner.schedule.card import Card
from planner.target.model import Blocks, ComponentInfo, Target


def card_of(lock: Lock) -> Card | None:
    """The card that it was compiled for, with its data where a card that ships has its name; None where that
    was the plan's own budget."""
    said = lock.content["card"]
    if said is None:
        return None
    data = find_card(said[DATA]["name"])[0] if DATA in said else None
    return Card(**{key: said[key] for key in CARD}, data=data)


def is_calibrated(lock: Lock) -> bool:
    """Whether its forecast went by what a run measured."""
    return lock.content["calibration"] is not None


def commit_of(lock: Lock) -> str | None:
    """The hub's commit that its sizes are of."""
    found: str | None = lock.content["pipeline"]["commit"]
    return found


def filled(
    target: Target, plan: Plan, lock: Lock, found: list[Diagnostic]
) -> tuple[Target, list[Diagnostic]]:
    """``target`` with the lock's sizes where its own are not known, and ``found`` without the notes that said
    so. Nothing is taken from a lock of another class, source or revision."""
    said, pipeline = lock.content["pipeline"], plan.pipeline
    mine = (target.cls, pipeline.source, pipeline.variant, pipeline.revision)
    if mine != tuple(said[key] for key in ("class", "source", "variant", "revision")):
        return target, found
    if target.origin == "loaded":
        return target, found
    sizes = lock.content["components"]
    own = {name: component.source for name, component in plan.components.items()}
    components = {
        name: _with(info, sizes[name])
        if info.bytes is None and name in sizes and sizes[name]["source"] == own.get(name)
        else info
        for name, info in target.components.items()
    }
    if components == target.components:
        return target, found
    whole = all(c.bytes is not None for c in components.values() if c.module and c.present)
    kept = [d for d in found if not (whole and d.code is SIZES_UNKNOWN)]
    origin = "folder" if commit_of(lock) is not None else target.origin
    return replace(target, components=components, origin=origin), kept


def _with(info: ComponentInfo, said: Mapping[str, Any]) -> ComponentInfo:
    blocks = None
    if said["blocks"] is not None:
        blocks = Blocks(fixed=said["fixed"], streamable=tuple(said["blocks"]))
    return replace(
        info,
        classes=tuple(said["classes"]),
        present=said["present"],
        bytes=said["bytes"],
        blocks=blocks,
    )
