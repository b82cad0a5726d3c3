"""Which of the calls that ship is the one that a plan's ``run`` means, or the nearest; else why none is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.cards.kernels import HOPPER, Kernels
from planner.models.model import Model, ShippedCall, models, profile
from planner.models.steps import with_steps
from planner.plan.model import Plan
from planner.plan.run import IMAGES, SEED
from planner.predict.profile import CallProfile
from planner.predict.stored import FormError
from planner.target.auto import is_generic, meant
from planner.target.call import LEFT_OPEN, Call
from planner.target.place import place_of

SIZES = ("height", "width", "num_frames")
STEPS = "num_inference_steps"
FREE = frozenset(
    {
        *(SEED, STEPS, "eta", "guidance_rescale", "guidance_scale", "guidance_scale_2", "frame_rate", "fps"),
        *("prompt", "prompt_2", "prompt_3", "use_dynamic_cfg", "cross_attention_kwargs", "attention_kwargs"),
        *("negative_prompt", "negative_prompt_2", "negative_prompt_3", "true_cfg_scale", "sigmas"),
        *("decode_timestep", "decode_noise_scale", "original_size", "target_size", "crops_coords_top_left"),
        *("negative_original_size", "negative_target_size", "negative_crops_coords_top_left"),
    }
)
"""Arguments that change no shape, as long as they are of one call; ``guided`` has what guidance does."""
TILED = "it was traced with tiling alone"
MOST_STEPS = 10_000
FAR = 2.0
"""Times as many positions, or as few, as a call that ships may have for it to be told in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """``call``: None where none that ships is like the plan's, and ``why``; ``exact``: it is the plan's call;
    else ``why`` says what it is of."""

    model: Model
    call: CallProfile | None = None
    exact: bool = False
    why: str = ""


def model_of(plan: Plan) -> Model | None:
    """The model that ships under the plan's hub id; None where the source is no such id, or lies here."""
    source, sources = plan.pipeline.source, plan.document.sources
    if source is None or source not in models():
        return None
    place = place_of(source, Path(sources[0].name).parent if sources else None)
    return models()[source] if place.kind == "hub" else None


def class_of(plan: Plan, model: Model) -> str:
    """The class that the plan's is, or that it stands for with ``model`` (``DiffusionPipeline``)."""
    cls = plan.pipeline.cls
    return (meant(cls, model.cls) or cls) if is_generic(cls) else cls


def shipped(plan: Plan, taken: Call | None, kernels: Kernels | None = None) -> Shipped | None:
    """What ships of the plan's source, None where nothing does. ``taken``: the arguments of its class's call;
    ``kernels``: of the card, a Hopper's where nobody says."""
    model = model_of(plan)
    if model is None:
        return None
    said = _Said(model, taken, plan.run)
    try:
        found = _nearest(plan, said, kernels or HOPPER)
        call = profile(model, found)
        steps = said.value(plan.run, STEPS)
        if steps is not None and not (isinstance(steps, int) and 0 < steps <= MOST_STEPS):
            raise _Unlike(f"{steps!r} is no number of steps up to {MOST_STEPS:,}")
        made = call if steps in (None, call.steps) else with_steps(call, steps)
        if made is None:
            raise _Unlike(f"{call.steps} steps were traced, and {steps} cannot be made of them")
    except (_Unlike, FormError) as error:
        return Shipped(model=model, why=str(error))
    asked, was = said.sizes(plan.run), said.sizes(found.arguments)
    why = "" if asked == was else f"of {_words(was)}, which was traced, not of {_words(asked)}"
    notes = (f"it ships, made with {model.made_with}", *_assumed(plan, model), *([why] if why else []))
    return Shipped(model=model, call=replace(made, notes=(*made.notes, *notes)), exact=not why, why=why)


class _Unlike(Exception):
    """No call that ships is like the plan's."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a call takes: as it is given, else the model's default, else its class's."""

    model: Model
    taken: Call | None
    run: Mapping[str, Any]

    def value(self, run: Mapping[str, Any], name: str) -> Any:
        """Of one argument; None where nobody says."""
        if run.get(name) is not None:
            return run[name]
        if name in self.model.defaults:
            return self.model.defaults[name]
        argument = None if self.taken is None else self.taken.arguments.get(name)
        return None if argument is None or argument.default is LEFT_OPEN else argument.default

    def sizes(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Height, width and frames."""
        return {key: self.value(run, key) for key in SIZES}

    def guided(self, run: Mapping[str, Any]) -> bool:
        """Whether each step runs for two."""
        scale = self.value(run, self.model.guided) if self.model.guided else None
        above = isinstance(scale, (int, float)) and scale > 1
        return above and (not self.model.negative or run.get("negative_prompt") is not None)

    def differs(self, run: Mapping[str, Any]) -> str:
        """The first argument that changes shapes in ways of its own and is not as in ``run``, "" for none."""
        names = (self.run.keys() | run.keys()) - FREE - {*SIZES, self.model.guided, "output_type"}
        names -= IMAGES if self.model.image else set()
        return next((n for n in sorted(names) if self.value(self.run, n) != self.value(run, n)), "")


def _nearest(plan: Plan, said: _Said, kernels: Kernels) -> ShippedCall:
    """The call that is like the plan's and nearest to it in size. Raises _Unlike with what none has.

    All that ship make one picture or video, of which there is nothing to slice: with ``slicing`` and without
    they are the same.
    """
    model = said.model
    if (cls := class_of(plan, model)) != model.cls:
        raise _Unlike(f"{model.cls} was traced, not {cls}")
    if (dtype := plan.pipeline.dtype or "float32") != model.dtype:
        raise _Unlike(f"{model.dtype} was traced, not {dtype}")
    for key in ("prompt", "negative_prompt"):
        if isinstance(plan.run.get(key), list):
            raise _Unlike(f"one prompt was traced, and run.{key} is several")
    if plan.run.get("output_type") == "latent":
        raise _Unlike("it was traced to its end, not to latents")
    asked = said.sizes(plan.run)
    if not all(n is None or (isinstance(n, int) and n > 0) for n in asked.values()):
        raise _Unlike(f"{_words(asked)} is no size")
    tiled = tuple(sorted(name for name, one in plan.components.items() if one.tiling))
    guided = said.guided(plan.run)
    left = _those(
        model.calls,
        lambda c: (c.kernels.attention, c.kernels.nchw) == (kernels.attention, kernels.nchw),
        f"it was not traced for the kernels of {kernels.name}",
    )
    left = _those(
        left, lambda c: c.tiling == tiled, f"it was not traced {_listed(tiled)} tiled" if tiled else TILED
    )
    left = _those(
        left,
        lambda c: said.guided(c.arguments) == guided,
        f"it was not traced {'with' if guided else 'without'} guidance by {model.guided}",
    )
    other = said.differs(left[0].arguments)
    left = _those(left, lambda c: not said.differs(c.arguments), f"it was not traced with this run.{other}")

    def far(call: ShippedCall) -> tuple[float, float]:
        times = _times(asked, said.sizes(call.arguments))
        return round(abs(math.log(times)), 6), times  # of two that are as near, the larger

    best = min(left, key=far)
    was = said.sizes(best.arguments)
    if not 1 / FAR <= _times(asked, was) <= FAR:
        raise _Unlike(f"{_words(was)} was traced, and {_words(asked)} is far from it")
    return best


def _those(
    calls: Sequence[ShippedCall], fits: Callable[[ShippedCall], bool], why: str
) -> Sequence[ShippedCall]:
    found = [call for call in calls if fits(call)]
    if not found:
        raise _Unlike(why)
    return found


def _times(asked: Mapping[str, Any], was: Mapping[str, Any]) -> float:
    """How many times as many positions are ``asked`` for."""
    mine, its = (math.prod(n or 1 for n in sizes.values()) for sizes in (asked, was))
    return float(mine / its)


def _words(sizes: Mapping[str, Any]) -> str:
    """``768x1344``: height and width, as diffusers has them; with frames where there are any."""
    frames = f" and {sizes['num_frames']} frames" if sizes["num_frames"] else ""
    return f"{sizes['height']}x{sizes['width']}{frames}"


def _assumed(plan: Plan, model: Model) -> list[str]:
    """What is not looked at of this plan."""
    found = ["as for a prompt of 40 words"] if model.by_text else []
    found += [f"as for an image of {model.image}"] if model.image else []
    found += [
        f"{rule.component}: quantized by {rule.backend}, traced as dense weights"
        for rule in plan.quantization
    ]
    found += ["LoRAs are not traced"] if plan.loras else []
    own = sorted(name for name, said in plan.components.items() if said.source is not None)
    return found + [f"{name}: traced as the model's own, not as its source's" for name in own]


def _listed(names: Sequence[str]) -> str:
    return f"with {', '.join(names)}"
