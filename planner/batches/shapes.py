"""Rows by the shapes of their calls, and what a call of each shape takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

from planner.api import compile
from planner.batches.foresee import foretold
from planner.batches.task import Task
from planner.loading.paths import beside
from planner.plan.model import Plan
from planner.plan.run import COUNTS, IMAGES, SEED, with_run
from planner.predict.call import calls
from planner.predict.forecast import Forecast
from planner.schedule.card import Card
from planner.stages.results import Compiled

MOST = 8
"""Shapes that are traced for one batch, the largest first: each takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Rows whose calls run on tensors of the same sizes, that of the longest text first."""

    tasks: Sequence[Task]

    @property
    def first(self) -> Task:
        """By which they are foreseen."""
        return self.tasks[0]

    @property
    def size(self) -> int:
        """How large the tensors are, for comparing: steps run one after the other."""
        return prod(_counts(self.first.run, steps=False))

    @property
    def work(self) -> int:
        """How much there is to do, for comparing."""
        return prod(_counts(self.first.run, steps=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``compiled``: for the largest row, as a worker has it; ``calls``: by number of the shape, the first
    call of a process and a later one; ``why``: what could not be foreseen."""

    compiled: Compiled
    calls: Mapping[int, tuple[Forecast, Forecast]]
    why: tuple[str, ...]


def seen(plan: Plan, shapes: Sequence[Shape], card: Card | None) -> Seen:
    """``MOST`` of at least one shape, the largest first, where the rates of ``card`` are known. Raises
    PlanError where the plan does not compile for the largest row."""
    largest = as_row(plan, shapes[0].first)
    if card is None:
        return Seen(compiled=compile(largest), calls={}, why=())
    told = foretold(largest, card)
    compiled = compile(largest, card=told.card, call=told.call)
    why, found = [told.why], {}
    played = told.call is not None and card.data is not None  # else its weights are not split as calls are
    for number, shape in enumerate(shapes[:MOST] if played else ()):
        one = told if number == 0 else foretold(as_row(plan, shape.first), card)
        why.append(one.why)
        if one.call is not None and one.card.data is not None:
            found[number] = calls(compiled.graph, compiled.schedule, one.call, one.card.data)
            why += one.call.notes
    return Seen(compiled=compiled, calls=found, why=tuple(dict.fromkeys(filter(None, why))))


def as_row(plan: Plan, task: Task) -> Plan:
    """``plan`` with the call of a row."""
    return with_run(plan, task.run)


def shapes_of(plan: Plan, tasks: Sequence[Task]) -> list[Shape]:
    """Rows of equal shapes together, the largest shape first."""
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(shape_of(plan, task.run), []).append(task)
    shapes = [Shape(tasks=sorted(same, key=lambda task: -_letters(task.run))) for same in found.values()]
    return sorted(shapes, key=lambda shape: (-shape.size, -shape.work))


def shape_of(plan: Plan, run: Mapping[str, Any]) -> str:
    """What in a call decides the sizes of its tensors and how often each runs: of texts only that they are
    there, of pictures their size."""
    known = {n: _pictures(plan, v) if n in IMAGES else _form(v) for n, v in run.items() if n != SEED}
    return repr(sorted(known.items()))


def _form(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_form(part) for part in value]
    if isinstance(value, Mapping):
        return {name: _form(part) for name, part in sorted(value.items())}
    return "text" if isinstance(value, str) else value


def _pictures(plan: Plan, value: Any) -> Any:
    if isinstance(value, list):
        return [_pictures(plan, part) for part in value]
    if isinstance(value, str):
        from PIL import Image

        with suppress(OSError), Image.open(beside(plan, value)) as picture:
            return picture.size
    return value


def _letters(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_letters, value.values()))
    if isinstance(value, list):
        return sum(map(_letters, value))
    return len(value) if isinstance(value, str) else 0


def _counts(run: Mapping[str, Any], *, steps: bool) -> Iterator[int]:
    for name, value in run.items():
        if not COUNTS.fullmatch(name) or not isinstance(value, int):
            continue
        if steps or not name.endswith("num_inference_steps"):
            yield value
