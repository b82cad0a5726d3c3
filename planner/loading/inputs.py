"""A plan's ``run`` as the arguments of the pipeline's call: images opened, the seed made a generator."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.diagnostics.diagnostic import Code, Diagnostic, PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_machine import BAD_ARGUMENT, INPUT_UNREADABLE, UNKNOWN_ARGUMENT
from planner.document.node import escaped
from planner.loading.media import Unreadable, read_image, read_video
from planner.loading.paths import beside
from planner.plan.model import Plan

if TYPE_CHECKING:
    import torch

SEED = "seed"
IMAGES = frozenset(
    {
        *("image", "images", "mask", "mask_image", "control_image", "control_mask", "controls"),
        *("ip_adapter_image", "negative_ip_adapter_image", "last_image", "original_image", "cond_image"),
        *("image_reference", "reference_image", "reference_images", "ref_image", "example_image"),
        *("conditioning_frames", "condtioning_image", "input_images", "text_images"),
        *("gligen_images", "gligen_inpaint_image"),
    }
)
"""Arguments that take PIL images, of all pipeline classes of diffusers 0.42.1 (its spelling)."""
VIDEOS = frozenset(
    {
        *("video", "control_video", "mask_video", "background_video", "face_video", "pose_video"),
        "control_camera_video",
    }
)
"""Arguments that take a list of PIL images, one a frame."""
GIVEN = frozenset({"generator", "callback_on_step_end", "callback", "return_dict"})
"""Arguments that no plan can write: a generator comes from the seed, functions from a script."""
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``arguments`` for the pipeline's call, and the seed of its generator."""

    arguments: Mapping[str, Any]
    seed: int


def call_of(plan: Plan, pipe: Any) -> Call:
    """The call that ``plan.run`` means for ``pipe``.

    ``seed`` (0 when left out) becomes a ``generator`` on the CPU, so that the noise is the same on every
    device. Strings under the names of ``IMAGES`` and ``VIDEOS`` are paths relative to the plan; a list of
    paths gives a list of images, a folder as a video its images by name. Raises PlanError with all that
    is wrong: unknown arguments, a bad seed, files that cannot be read.
    """
    building = _Building(plan, _parameters(pipe), type(pipe).__name__)
    arguments = {}
    for name, value in plan.run.items():
        if name != SEED and building.known(name):
            arguments[name] = building.value(name, value, f"/run/{escaped(name)}")
    seed = building.seed()
    if building.found:
        raise PlanError(building.found, plan.document.sources)
    if building.takes("generator"):
        arguments["generator"] = _generator(seed)
    return Call(arguments=arguments, seed=seed)


def call_arguments(plan: Plan, pipe: Any) -> dict[str, Any]:
    """``call_of(plan, pipe).arguments``, for ``pipe(**call_arguments(plan, pipe))``. Raises PlanError."""
    return dict(call_of(plan, pipe).arguments)


class _Building:
    """The arguments so far, and what was wrong with the others."""

    def __init__(self, plan: Plan, parameters: Mapping[str, Any], cls: str) -> None:
        self.plan = plan
        self.parameters = parameters
        self.cls = cls
        self.found: list[Diagnostic] = []
        self.open = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())

    def takes(self, name: str) -> bool:
        return name in self.parameters or self.open

    def known(self, name: str) -> bool:
        if name in GIVEN:
            hint = "seed makes the generator" if name == "generator" else "planner.apply in a script"
            self.say(BAD_ARGUMENT, f'"{name}" cannot be written in a plan', f"/run/{escaped(name)}", hint)
            return False
        if self.takes(name):
            return True
        names = [n for n in self.parameters if n not in GIVEN]
        said = f'{self.cls} takes no argument "{name}"'
        self.say(UNKNOWN_ARGUMENT, said, f"/run/{escaped(name)}", did_you_mean(name, [*names, SEED]))
        return False

    def value(self, name: str, value: Any, pointer: str) -> Any:
        if name not in IMAGES | VIDEOS or value is None:
            return value
        if isinstance(value, list):
            if name in VIDEOS and all(isinstance(v, str) for v in value):
                return [self.image(v, f"{pointer}/{i}") for i, v in enumerate(value)]
            return [self.value(name, v, f"{pointer}/{i}") for i, v in enumerate(value)]
        if not isinstance(value, str):
            self.say(BAD_ARGUMENT, f'"{name}" takes a path, found {value!r}', pointer)
            return None
        return self.video(value, pointer) if name in VIDEOS else self.image(value, pointer)

    def image(self, text: str, pointer: str) -> Any:
        return self._read(read_image, text, pointer)

    def video(self, text: str, pointer: str) -> Any:
        return self._read(read_video, text, pointer)

    def seed(self) -> int:
        value = self.plan.run.get(SEED, 0)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED:
            return value
        said = f'"{SEED}" is a whole number from 0 to {LARGEST_SEED}, found {value!r}'
        self.say(BAD_ARGUMENT, said, f"/run/{SEED}")
        return 0

    def say(self, code: Code, message: str, pointer: str, hint: str = "") -> None:
        spans = self.plan.document.key_spans if code is UNKNOWN_ARGUMENT else self.plan.document.spans
        span = spans.get(pointer, self.plan.place(pointer))
        self.found.append(finding(code, message, span=span, pointer=pointer, hint=hint))

    def _read(self, read: Any, text: str, pointer: str) -> Any:
        try:
            return read(beside(self.plan, text))
        except Unreadable as error:
            self.say(INPUT_UNREADABLE, f'cannot read "{text}": {error}', pointer)
            return None


def _parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """Of the class's own call: a session puts a subclass with a wider one on the instance."""
    for cls in type(pipe).__mro__:
        call = cls.__dict__.get("__call__")
        if call is None:
            continue
        found = dict(inspect.signature(call).parameters)
        if not all(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or n == "self" for n, p in found.items()):
            found.pop("self", None)
            return found
    return {}


def _generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator("cpu").manual_seed(seed)
