"""A plan's ``run`` as the arguments of the pipeline's call: images opened, the seed made a generator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.diagnostics.diagnostic import Code, Diagnostic, PlanError, errors, finding
from planner.diagnostics.table.p9_machine import INPUT_UNREADABLE
from planner.document.node import escaped
from planner.generate.call import call_text
from planner.generate.source import source_of
from planner.loading.media import INLINE, MOST_INLINE, Unreadable, read_image, read_inline, read_video
from planner.loading.paths import beside
from planner.plan.model import Plan
from planner.plan.run import IMAGES, SEED, VIDEOS, check_run
from planner.target.call import Call as Taken
from planner.target.call import read_call

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``arguments`` for the pipeline's call, and the seed of its generator."""

    arguments: Mapping[str, Any]
    seed: int


def call_of(plan: Plan, pipe: Any, *, inline: bool = False) -> Call:
    """The call that ``plan.run`` means for ``pipe``.

    ``seed`` (0 when left out) becomes a ``generator`` on the CPU, so that the noise is the same on every
    device. Strings under the names of ``IMAGES`` and ``VIDEOS`` are paths relative to the plan; a list of
    paths gives a list of images, a folder as a video its images by name. ``inline``: a text that begins with
    ``data:`` is an image itself (RFC 2397). Raises PlanError with all that is wrong: what the call does not
    take (``planner.plan.run``), files that cannot be read.
    """
    taken = signature(type(pipe))
    building = _Building(plan, errors(check_run(plan, taken, type(pipe).__name__)), inline)
    wrong = {problem.pointer for problem in building.found}
    arguments = {}
    for name, value in plan.run.items():
        pointer = f"/run/{escaped(name)}"
        if name != SEED and pointer not in wrong:
            arguments[name] = building.value(name, value, pointer)
    if building.found:
        raise PlanError(building.found, plan.document.sources)
    seed = plan.run.get(SEED, 0)
    if "generator" in taken.arguments or taken.more:
        arguments["generator"] = _generator(seed)
    return Call(arguments=arguments, seed=seed)


def input_findings(plan: Plan, *, inline: bool = False) -> list[Diagnostic]:
    """Images of ``run`` that cannot be read and videos that are not there, before any weight is read;
    ``inline`` as for ``call_of``. What is no path is for ``check_run`` to tell."""
    building = _Building(plan, (), inline)
    for name, value in plan.run.items():
        if name in IMAGES | VIDEOS:
            building.value(name, value, f"/run/{escaped(name)}")
    return building.found


def signature(cls: type) -> Taken:
    """The arguments of a pipeline class's call, from its source; of one that has none, any."""
    text = call_text(cls, source_of(cls))
    return Taken(arguments={}, more=True) if text is None else read_call(text)


def call_arguments(plan: Plan, pipe: Any) -> dict[str, Any]:
    """``call_of(plan, pipe).arguments``, for ``pipe(**call_arguments(plan, pipe))``. Raises PlanError."""
    return dict(call_of(plan, pipe).arguments)


class _Building:
    """Values so far, and what was wrong with the others."""

    def __init__(self, plan: Plan, found: Iterable[Diagnostic], inline: bool) -> None:
        self.plan = plan
        self.found = list(found)
        self.inline = inline
        self.pixels = MOST_INLINE

    def value(self, name: str, value: Any, pointer: str) -> Any:
        if name not in IMAGES | VIDEOS or value is None:
            return value
        if isinstance(value, list):
            if name in VIDEOS and all(isinstance(v, str) for v in value):
                return [self.image(v, f"{pointer}/{i}") for i, v in enumerate(value)]
            return [self.value(name, v, f"{pointer}/{i}") for i, v in enumerate(value)]
        if not isinstance(value, str):  # no path, as check_run says
            return value
        return self.video(value, pointer) if name in VIDEOS else self.image(value, pointer)

    def image(self, text: str, pointer: str) -> Any:
        return self._read(read_image, text, pointer)

    def video(self, text: str, pointer: str) -> Any:
        return self._read(read_video, text, pointer)

    def say(self, code: Code, message: str, pointer: str) -> None:
        span = self.plan.place(pointer)
        self.found.append(finding(code, message, span=span, pointer=pointer))

    def _read(self, read: Any, text: str, pointer: str) -> Any:
        inline = self.inline and text.startswith(INLINE)
        try:
            return self._inline(text) if inline else read(beside(self.plan, text))
        except Unreadable as error:
            self.say(INPUT_UNREADABLE, f'cannot read "{text[:40] if inline else text}": {error}', pointer)
            return None

    def _inline(self, text: str) -> Any:
        image = read_inline(text, self.pixels)
        self.pixels -= image.width * image.height
        return image


def _generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator("cpu").manual_seed(seed)
