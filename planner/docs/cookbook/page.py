"""The page's tables, from the plans as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.api import compile
from planner.cards.shipped import card_at
from planner.docs.cookbook.making import Result, results
from planner.docs.cookbook.recipes import LEFT, RECIPES, SIZES, Recipe, entry, file_of
from planner.docs.markdown import code, joined, table
from planner.plan.model import Idle, Policy
from planner.schedule.card import imagined_as
from planner.stages.results import Compiled

PAGE = Path(__file__).parents[1] / "cookbook.md"
FIRST = "\n## 8 GB\n"
"""From here on, the page is made."""
HEAD = ("model", "call", "seconds", "bound", "peak, GiB", "what it does", "picture")
_SECONDS = re.compile(r"^# fit: ([\d.]+) s predicted for a call", re.MULTILINE)
_PEAK = re.compile(r"^# fit: at most ([\d.]+) GiB as the driver shows it", re.MULTILINE)
_CALL = re.compile(r"^# fit: card .* \(assumed\); (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Said:
    """What a plan's file says of itself, as text: predicted seconds, GiB at the peak, arguments."""

    seconds: str
    peak: str
    call: str


def said_in(text: str) -> Said:
    """Raises ValueError where a line of the fit is missing."""
    found = [pattern.search(text) for pattern in (_SECONDS, _PEAK, _CALL)]
    if None in found:
        raise ValueError("a line that plan fit writes is missing")
    return Said(*(one[1] for one in found if one is not None))


def compiled(recipe: Recipe, size: int) -> Compiled:
    """The plan as anybody compiles it for the card, with its forecast. Raises PlanError."""
    return compile(file_of(recipe, size), card=imagined_as(card_at(SIZES[size])))


def written(text: str) -> str:
    """The page with its tables made anew."""
    return joined(text.partition(FIRST)[0], tables())


def tables() -> str:
    """A heading and a table for each size of card."""
    kept = results()
    return joined(*(part for size in SIZES for part in _of_size(size, kept)))


def _of_size(size: int, kept: Mapping[str, Result]) -> Iterator[str]:
    yield f"## {size} GB"
    yield f"{code(SIZES[size])}, {code(f'budget: {{vram: {size - LEFT}GiB}}')}."
    yield table(HEAD, [_row(recipe, size, kept[entry(recipe, size)]) for recipe in RECIPES])


def _row(recipe: Recipe, size: int, result: Result) -> tuple[str, ...]:
    path = file_of(recipe, size)
    if not path.exists():
        least = "-" if result.least is None else f"{result.least / 1024:.1f} GiB would be needed"
        tried = ", with the VAE tiled too" if result.tiled else ""
        return recipe.title, "", "nothing fits", "", "", f"{least}{tried}", ""
    said = said_in(path.read_text(encoding="utf-8"))
    return (
        recipe.title,
        _call(said.call),
        said.seconds,
        f"{result.bound:.2f}",
        said.peak,
        does(compiled(recipe, size)),
        _picture(result),
    )


def _picture(result: Result) -> str:
    said = "VAE tiled: seams may show" if result.tiled else "the same"
    return f"{said}, but rounding may differ: tight (P996)" if result.tight else said


def does(plan: Compiled) -> str:
    """``streams transformer (24%), text_encoder (66%)``: how much stays; and what stays between calls."""
    streams = [
        f"{name} ({placed.split.resident / (plan.target.components[name].bytes or 1):.0%})"
        for name, placed in plan.schedule.placements.items()
        if placed.streams and placed.split is not None
    ]
    once = [n for n, placed in plan.schedule.placements.items() if placed.policy is Policy.RESIDENT]
    parts = [f"streams {', '.join(streams)}"] if streams else []
    parts += [f"{', '.join(once)} placed once"] if once else []
    kept = "keeps what fits between calls" if plan.schedule.course.idle is Idle.KEEP else ""
    return "; ".join(filter(None, (*(parts or ["each comes whole"]), kept)))


def _call(said: str) -> str:
    """``height 512, width 704, num_frames 161, 50 steps`` in short: ``512 x 704, 161 frames, 50 steps``."""
    sizes = dict(part.rpartition(" ")[::2] for part in said.split(", "))
    frames = f"{sizes['num_frames']} frames" if "num_frames" in sizes else ""
    steps = next((part for part in said.split(", ") if part.endswith(" steps")), "")
    return ", ".join(filter(None, (f"{sizes['height']} x {sizes['width']}", frames, steps)))
