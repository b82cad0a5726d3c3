"""What rows that are to run will take: ``plan batch --dry-run``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import mean, median
from typing import Any

from planner.batches.shapes import MOST, Seen, Shape, seen, shape_of, shapes_of
from planner.batches.task import Task
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.loading.kinds import kinds_of
from planner.plan.model import Plan
from planner.schedule.card import Card
from planner.schedule.fit import gib

LARGEST_FILE = 1.01
"""Bytes of a picture's file to those of its pixels, at the most: what deflate adds, and its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What ``largest`` takes, the row that takes the most of the device: ``peak``, bytes that its driver
    shows, where the card's rates are known; ``weights``, bytes of weights alone; ``moved``, bytes that a
    worker's first row moves, and ``later`` each one after it. ``seconds`` of all rows; ``disk``, bytes of
    their outputs, and ``free`` ones there. None is what cannot be told; ``notes``: by which rules, in words;
    ``found``: why the plan does not compile."""

    largest: str
    peak: int | None = None
    weights: int | None = None
    moved: int | None = None
    later: int | None = None
    seconds: float | None = None
    disk: int | None = None
    free: int = 0
    notes: tuple[str, ...] = ()
    found: tuple[Diagnostic, ...] = ()

    def __str__(self) -> str:
        return "\n".join(("; ".join(self._parts()), *(f"  {note}" for note in self.notes)))

    def _parts(self) -> Iterator[str]:
        peak = f'the largest is "{self.largest}"'
        if self.weights is not None:
            weights = f"{gib(self.weights)} of weights"
            peak += f", at its peak {weights if self.peak is None else gib(self.peak)} on the device"
            peak += "" if self.peak is None else f", {weights} among them"
        yield peak
        if self.moved is not None:
            then = "" if self.later is None else f", {gib(self.later)} for each one after it"
            yield f"{gib(self.moved)} moved for a worker's first row{then}"
        if self.seconds is None:
            yield "hours are known once a row has run: --limit 1"
        else:
            yield f"{self.seconds / 60:.1f} min" if self.seconds < 3600 else f"{self.seconds / 3600:.1f} h"
        if self.disk is None:
            yield f"disk is known once a row has run; {gib(self.free)} are free"
        else:
            yield f"{gib(self.disk)} of disk, {gib(self.free)} are free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Rows that have their output, as far as they tell of others: ``seconds`` by the shape of the call;
    ``sizes``: bytes of what each wrote."""

    seconds: Mapping[str, Sequence[float]]
    sizes: Sequence[int]


def finished(
    plan: Plan, done: Sequence[Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]], out: Path
) -> Finished:
    """``done``: records of the folder ``out``; ``runs``: by the row's id, its call."""
    seconds: dict[str, list[float]] = {}
    for one in done:
        seconds.setdefault(shape_of(plan, runs[one["id"]]), []).append(one["seconds"])
    sizes = [sum((out / name).stat().st_size for name in one["outputs"]) for one in done]
    return Finished(seconds=seconds, sizes=sizes)


def ahead(
    plan: Plan, tasks: Sequence[Task], workers: int, out: Path, before: Finished, card: Card | None
) -> Ahead:
    """Of at least one task, on ``card``; None where nobody knows which. ``MOST`` shapes of rows are traced,
    without data, which needs the pipeline's configs on this machine; no weights are read. Raises nothing for
    what it cannot tell."""
    shapes = shapes_of(plan, tasks)
    free = shutil.disk_usage(_there(out)).free
    disk, how = _disk(plan, tasks, before)
    try:
        saw = seen(plan, shapes, card)
    except PlanError as error:
        seconds, by = _seconds(plan, shapes, workers, before, None)
        return Ahead(
            largest=shapes[0].first.id,
            seconds=seconds,
            disk=disk,
            free=free,
            notes=(*by, *how),
            found=error.diagnostics,
        )
    seconds, by = _seconds(plan, shapes, workers, before, saw)
    if not saw.calls:
        rates = "no card is known" if card is None else f"no rates of {card.kind or card.name} are known"
        if card is not None and card.data is not None:
            rates = f'the call of "{shapes[0].first.id}" is not traced'
        schedule = saw.compiled.schedule
        alone = f"the peak is of weights alone, and activations come on top: {rates}"
        return Ahead(
            largest=shapes[0].first.id,
            weights=schedule.peak,
            moved=schedule.moved,
            seconds=seconds,
            disk=disk,
            free=free,
            notes=(alone, *by, *how, *saw.why),
        )
    peaks = {number: max(first.peak, later.peak) for number, (first, later) in saw.calls.items()}
    most = max(peaks, key=lambda number: peaks[number])
    first, later = saw.calls[most]
    return Ahead(
        largest=shapes[most].first.id,
        peak=peaks[most],
        weights=max(sample.weights for one in (first, later) for sample in one.samples),
        moved=first.moved,
        later=later.moved,
        seconds=seconds,
        disk=disk,
        free=free,
        notes=(*_short(shapes, saw), *by, *how, *saw.why),
    )


def _short(shapes: Sequence[Shape], saw: Seen) -> Iterator[str]:
    """What finds too little room."""
    for number, both in saw.calls.items():
        if not all(one.fits for one in both):
            yield f'a row like "{shapes[number].first.id}" finds too little room in the budget'


def _seconds(
    plan: Plan, shapes: Sequence[Shape], workers: int, before: Finished, saw: Seen | None
) -> tuple[float | None, Iterator[str]]:
    """Of all rows, and by which rules. Each shape's: as its finished rows took, else as it is foreseen, else
    as that of the foreseen one that is the next larger (the smallest, where none is), in proportion to the
    work that counts in a row's arguments say; where no call is foreseen, as finished rows of any shape."""
    known = {} if saw is None else saw.calls
    any_of = [second for those in before.seconds.values() for second in those]
    total, by = 0.0, dict.fromkeys(("measured", "predicted", "like", "any"), 0)
    for number, shape in enumerate(shapes):
        same = before.seconds.get(shape_of(plan, shape.first.run))
        if same is not None:
            one, how = median(same), "measured"
        elif number in known:
            one, how = known[number][1].seconds, "predicted"
        elif known:
            like = max((n for n in known if n < number), default=min(known))
            one, how = known[like][1].seconds * shape.work / shapes[like].work, "like"
        elif any_of:
            one, how = median(any_of), "any"
        else:
            return None, iter(())
        by[how] += len(shape.tasks)
        total += one * len(shape.tasks)
    begin = max((first.seconds - later.seconds for first, later in known.values()), default=0.0)
    return total / workers + max(0.0, begin), _rules(by, len(shapes), len(known))


def _rules(by: Mapping[str, int], shapes: int, traced: int) -> Iterator[str]:
    words = {
        "measured": "as finished rows of their shape",
        "predicted": "as predicted",
        "like": "in proportion to the next larger shape that was traced",
        "any": "as finished rows of other shapes",
    }
    said = "; ".join(f"{count} {words[how]}" for how, count in by.items() if count)
    yield f"rows' time: {said}; loading the pipeline is not among it"
    if by["like"]:
        yield f"{traced} of {shapes} shapes of rows were traced, {MOST} are at the most"


def _disk(plan: Plan, tasks: Sequence[Task], before: Finished) -> tuple[int | None, list[str]]:
    """As what finished rows wrote; else at most the pixels of pictures, where rows say how many those are."""
    if before.sizes:
        return round(mean(before.sizes) * len(tasks)), []
    from planner.loading.pipeline import class_of  # it imports torch

    try:
        kinds = kinds_of(class_of(plan))
    except PlanError:
        return None, []
    pixels = [_pixels(task.run) for task in tasks]
    if kinds[:1] != ("image",) or None in pixels:
        return None, []
    most = sum(one or 0 for one in pixels) * 3 * LARGEST_FILE
    return round(most), ["disk: at the most, by the pixels of its pictures"]


def _pixels(run: Mapping[str, Any]) -> int | None:
    sides = [run.get(name) for name in ("height", "width")]
    if not all(isinstance(side, int) for side in sides):
        return None
    prompt, each = run.get("prompt"), run.get("num_images_per_prompt", 1)
    prompts = len(prompt) if isinstance(prompt, list) else 1
    return prod(side for side in (*sides, prompts, each) if isinstance(side, int))


def _there(path: Path) -> Path:
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())
