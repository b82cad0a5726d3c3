"""What a plan compiles to now, against its lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_lock import LOCK_STALE
from planner.lock.compare import Difference, differences
from planner.lock.content import DATA
from planner.lock.model import Lock
from planner.lock.words import both, what
from planner.plan.model import Plan
from planner.source.text import Span


def drift(lock: Lock, now: Mapping[str, Any], plan: Plan) -> list[Diagnostic]:
    """A finding (P954) for each item that is not as the lock says, with what it was and is, at the line of
    ``plan`` that it is about."""
    found, steps = [], 0
    for difference in differences(lock.content, now):
        if _unsaid(lock, difference):
            continue
        if difference.section == "steps":
            steps += 1
            continue
        was, is_ = both(difference)
        name = what(difference)
        said = name if name == difference.section else f"{difference.section} {name}"
        span, pointer = _place(plan, difference)
        found.append(finding(LOCK_STALE, f"{said}: was {was}, is {is_}", span=span, pointer=pointer))
    if steps:
        counts = f"was {len(lock.content['steps'])} of them, is {len(now['steps'])}"
        said = f"steps: {counts}; {steps} {'place differs' if steps == 1 else 'places differ'}"
        found.append(finding(LOCK_STALE, said, span=plan.span))
    return found


def _unsaid(lock: Lock, difference: Difference) -> bool:
    """Whether it is about what locks of earlier versions do not have."""
    card = lock.content["card"]
    return difference.section == "card" and difference.path[:1] == (DATA,) and DATA not in (card or ())


def _place(plan: Plan, difference: Difference) -> tuple[Span, str]:
    path = difference.path
    tries: list[str] = []
    match difference.section, path:
        case "pipeline", [key, *_]:
            tries = [f"/pipeline/{key}", "/pipeline"]
        case "picture", ["dtype"]:
            tries = ["/pipeline/dtype"]
        case "picture", [("tiling" | "slicing") as option, name, *_]:
            tries = [f"/components/{name}/{option}", f"/components/{name}"]
        case "picture", [key, *_]:
            tries = [f"/{key}"]
        case "budget", [key, *_]:
            tries = [f"/budget/{key}", f"/{key}", "/budget"]
        case (("components" | "placements"), [name, *_]):
            tries = [f"/components/{name}"]
    for pointer in tries:
        if pointer in plan.document.spans:
            return plan.document.spans[pointer], pointer
    return plan.span, ""
