"""What would help where nothing fits: each thing that could be changed is changed by itself, and is named
where a plan is found then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from planner.diagnostics.diagnostic import PlanError
from planner.fitting.choices import Settings
from planner.fitting.least import smallest
from planner.fitting.pictures import ALLOW, PIECES, variants
from planner.fitting.price import Price
from planner.fitting.solution import Task
from planner.plan.model import Idle, Plan, Semantics
from planner.predict.replays import Replays

MULTIPLE = 32
"""Pixels that a smaller picture's sides are multiples of, which every VAE takes."""
FRAMES = 8
"""A shorter video has one frame more than a multiple of so many, as video VAEs want it."""
SMALLER = ((3, 4), (1, 2))
SHORTER = ((1, 2), (1, 4))
MANY = ("num_images_per_prompt", "num_videos_per_prompt")


@dataclass(frozen=True, slots=True)
class Change:
    """``said``: as one asks for it; ``settings``: what it is in the plan; ``other``: the call is another one
    with it; ``activations``: they become smaller, and weights do not; ``tight``: as of a task, for a plan
    with it."""

    said: str
    settings: Settings
    other: bool = False
    activations: bool = False
    tight: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Helps:
    """``enough``: with each of them, and all else as it is, a plan was found; ``little``: with each of them
    none was; ``untried``: such calls cannot be traced here; ``weights``: they do not fit even without any
    activations."""

    enough: tuple[str, ...]
    little: tuple[str, ...]
    untried: tuple[str, ...]
    weights: bool


@dataclass(slots=True)
class _Tried:
    enough: list[str] = field(default_factory=list)
    little: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)


def helps(
    task: Task, allow: Sequence[str], allowed: Settings, changed: Callable[[Change], Task | None]
) -> Helps:
    """For ``task``, for which no plan was found, nor with what changes the picture as ``allow`` says,
    ``allowed`` what takes the least of that. ``changed``: the same with a change, None where such a call
    cannot be traced here; it raises PlanError for a change that means nothing.

    Two plans are tried of each: the compiler's, and the one that streams as much as can be."""
    weights = not found_in(_without_activations(task))
    tried = _Tried()

    def helped(ways: Sequence[Change]) -> bool:
        """The first way that is enough is named, else the last."""
        fits: bool | None = False
        for way in ways:
            if fits := judged(way):
                tried.enough.append(way.said)
                return True
        if ways:
            (tried.untried if fits is None else tried.little).append(ways[-1].said)
        return False

    def judged(way: Change) -> bool | None:
        task.watch.begins(f"trying {way.said}")
        here = _judged(changed, way)
        if here or not allowed:
            return here
        both = replace(way, settings=(*allowed, *way.settings), other=True, tight=False)
        return _judged(changed, both) or here

    own = [*_own(task.plan)]
    if not sum(helped([change]) for change in own) and len(own) > 1:
        said = " and ".join(change.said.removeprefix("without ") for change in own)
        helped([Change(f"without {said}", _joined(own))])
    wider = [change for change in _allowed(task, allow) if not (weights and change.activations)]
    if not sum(helped([change]) for change in wider) and len(wider) > 1:
        said = ",".join(
            (*allow, *(change.said.rpartition(",")[2].removeprefix("--allow ") for change in wider))
        )
        helped([Change(f"--allow {said}", _joined(wider), other=True, tight=False)])
    for smaller in () if weights else _less(task):
        helped(smaller)
    return Helps(
        enough=tuple(tried.enough),
        little=tuple(tried.little),
        untried=tuple(tried.untried),
        weights=weights,
    )


def found_in(task: Task) -> bool:
    """Whether one of the two plans that hold the least fits."""
    pricer = task.pricer()
    return any(isinstance(pricer.price(settings, exact=exact), Price) for settings, exact in smallest(task))


def _judged(changed: Callable[[Change], Task | None], way: Change) -> bool | None:
    try:
        made = changed(way)
        return None if made is None else found_in(made)
    except PlanError:
        return False


def _joined(changes: Sequence[Change]) -> Settings:
    return tuple(setting for change in changes for setting in change.settings)


def _without_activations(task: Task) -> Task:
    call = task.call
    uses = tuple(
        replace(use, inputs=0, output=0, room=0, events=(), scratch=frozenset()) for use in call.uses
    )
    turns = tuple(replace(turn, held=0, glue=()) for turn in call.turns)
    return replace(task, call=replace(call, uses=uses, turns=turns, workspace=0), replays=Replays())


def _own(plan: Plan) -> Iterator[Change]:
    """What the plan says itself of what is where, and need not."""
    for name, said in plan.components.items():
        given = [key for key in ("policy", "resident", "prefetch") if getattr(said, key) is not None]
        keys = [f"components.{name}.{key}" for key in given]
        if keys:
            yield Change(f"without {' and '.join(keys)}", tuple((key, "null") for key in keys))
    if plan.exclude:
        yield Change("without exclude", (("exclude", "null"),))
    if plan.semantics is Semantics.DIFFUSERS:
        yield Change("without semantics: diffusers", (("semantics", "null"),))
    if plan.budget.leave_free is not None:
        yield Change("without budget.leave_free", (("budget.leave_free", "null"),))
    if plan.idle is Idle.KEEP and "idle" in plan.document.values:
        yield Change("--idle release", (("idle", "release"),))


def _allowed(task: Task, allow: Sequence[str]) -> Iterator[Change]:
    """Of what changes the picture and is not allowed, what takes the least."""
    for option in (one for one in ALLOW if one not in allow):
        way = variants(task.plan, task.unbounded.target, (option,))[0][-1]
        if way.settings:
            parts = option in PIECES
            said = ",".join((*allow, option))
            yield Change(f"--allow {said}", way.settings, other=True, activations=parts, tight=False)


def _less(task: Task) -> Iterator[list[Change]]:
    """Smaller pictures, shorter videos, fewer at once: each by steps."""
    said: dict[str, Any] = {**task.call.arguments, **task.plan.run}
    height, width, frames = (_number(said.get(key)) for key in ("height", "width", "num_frames"))
    if height and width:
        sides = [(_part(height, *by), _part(width, *by)) for by in SMALLER]
        yield [_run(height=h, width=w) for h, w in sides if 0 < h < height and 0 < w < width]
    if frames:
        counts = [(frames - 1) * up // down // FRAMES * FRAMES + 1 for up, down in SHORTER]
        yield [_run(num_frames=count) for count in counts if count < frames]
    for key in MANY:
        if (many := _number(said.get(key))) and many > 1:
            yield [_run(**{key: 1})]


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _part(side: int, up: int, down: int) -> int:
    return side * up // down // MULTIPLE * MULTIPLE


def _run(**values: int) -> Change:
    said = ",".join(f"{key}={value}" for key, value in values.items())
    settings = tuple((f"run.{key}", str(value)) for key, value in values.items())
    return Change(f"--run {said}", settings, other=True, activations=True)
