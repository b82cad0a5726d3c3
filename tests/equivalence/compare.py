"""Two plays side by side, event by event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from equivalence.declared import UNSEEN_IN_WALK
from equivalence.play import Played
from equivalence.scripts import frees
from planner.target import catalogue

Script = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """``scripts`` and ``events`` (of ours) that were held against stock's, and what was not equal.

    ``lost``: scripts that differ because of uses that diffusers' hooks do not see; ``strict``: scripts
    without any such use, where nothing may differ.
    """

    classes: int
    scripts: int
    strict: int
    events: int
    lost: int
    different: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.classes} classes, {self.scripts} scripts, {self.events} events: "
            f"{self.scripts - self.lost - len(self.different)} equal "
            f"({self.strict} of uses that diffusers sees), {self.lost} differ as declared, "
            f"{len(self.different)} differ"
        )


def compare(stock: Mapping[str, Played], ours: Mapping[str, Played]) -> Compared:
    """Every script of every class."""
    different: list[str] = []
    scripts = strict = events = lost = 0
    if stock.keys() != ours.keys():
        different.append(f"other classes: {sorted(stock.keys() ^ ours.keys())}")
    for name in stock.keys() & ours.keys():
        if stock[name].keys() != ours[name].keys():
            different.append(f"{name}: other scripts: {sorted(stock[name].keys() ^ ours[name].keys())}")
        for script in stock[name].keys() & ours[name].keys():
            theirs, mine = stock[name][script], ours[name][script]
            scripts += 1
            strict += "all uses" not in script
            events += sum(len(mine[part]) for part in ("on", "call", "end", "freed") if part in mine)
            said = _difference(name, script, theirs, mine)
            if said and declared_lost(name, script, theirs):
                lost += 1
            elif said:
                different.append(said)
    return Compared(
        classes=len(stock.keys() & ours.keys()),
        scripts=scripts,
        strict=strict,
        events=events,
        lost=lost,
        different=tuple(sorted(different)),
    )


def declared_lost(name: str, script: str, theirs: Script) -> bool:
    """Whether diffusers lost uses in this script, and may: in the class's own walk only the table's."""
    said = set(theirs.get("lost", ()))
    if script == "walk, all uses":
        return bool(said) and said <= UNSEEN_IN_WALK.get(name, set())
    return bool(said)


def _difference(
    name: str, script: str, theirs: Mapping[str, list[str]], mine: Mapping[str, list[str]]
) -> str:
    """The first difference in words, or ""."""
    place = f"{name}, {script}"
    for part in ("on", "call"):
        if theirs.get(part) != mine.get(part):
            return f"{place}: {part}: stock {theirs.get(part)}, ours {mine.get(part)}"
    by_hand = script.startswith("fails") or not frees(name)
    if bool(mine["freed"]) or (bool(theirs["end"]) if by_hand else bool(theirs["freed"])):
        return f"{place}: freed by hand: stock {theirs['end']} {theirs['freed']}, ours {mine['freed']}"
    found = catalogue.find(name)
    gone = _without_trips(theirs["freed" if by_hand else "end"], found.excluded if found else ())
    if gone != sorted(mine["end"]):
        return f"{place}: end: stock {gone}, ours {sorted(mine['end'])}"
    return ""


def _without_trips(events: list[str], excluded: Collection[str]) -> list[str]:
    """Sorted; excluded components that went to the CPU and came back did not move."""
    rest = list(events)
    for name in excluded:
        if f"-{name}" in rest and f"+{name}" in rest:
            rest.remove(f"-{name}")
            rest.remove(f"+{name}")
    return sorted(rest)
