"""Events to a walk: what follows what, what repeats, and what each stage is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from planner.generate.events import Event, Looped, Ran, flat
from planner.target.model import WalkLoop, WalkStage, WalkUse

_ROLES = (
    ("prompt", ("text_encoder", "text_model", "mllm", "llama", "t5", "tokenizer", "clap", "language_model")),
    ("image", ("image_encoder", "image_normalizer", "image_project", "feature_extractor", "vision")),
    ("prior", ("prior",)),
    ("check", ("safety_checker", "watermarker")),
)

_STEPS = re.compile(r"timesteps|num_inference_steps|sigmas|step_matrix|range\((\w+_)?steps\)")
"""What loops over denoising steps go over, by the names that diffusers' pipelines give it."""


def walk_of(events: Iterable[Event]) -> tuple[WalkStage, ...]:
    """The stages of a call. Uses that are made again right away (a negative prompt) are one stage."""
    stages = _level(tuple(events))
    taken: dict[str, int] = {}
    return tuple(_numbered(stage, taken) for stage in stages)


def _level(events: Sequence[Event]) -> list[WalkStage]:
    stages: list[WalkStage] = []
    plain: list[Ran] = []
    for event in (part for whole in events for part in _opened(whole)):
        if isinstance(event, Ran):
            plain.append(event)
            continue
        stages += _plain(plain)
        plain = []
        stages.append(_loop(event))
    return stages + _plain(plain)


def _opened(event: Event) -> Iterable[Event]:
    """A loop over one component alone holds what the component alone holds: its uses, once each."""
    if isinstance(event, Ran) or _over_steps(event):
        return (event,)
    names = {use.component for use in flat((event,))}
    if not names:
        return ()
    if len(names) == 1 and not _holds_steps(event):
        return tuple(flat((event,)))
    return (event,)


def _plain(uses: Sequence[Ran]) -> list[WalkStage]:
    """A stage for each use; what comes between two uses of one component is one stage with them."""
    groups: list[list[Ran]] = []
    for use in uses:
        at = next((i for i, g in enumerate(groups) if any(u.component == use.component for u in g)), None)
        if at is None:
            groups.append([use])
        else:
            groups[at:] = [[u for group in groups[at:] for u in group] + [use]]
    return [
        WalkStage(
            id=_name(group),
            runs=_runs(group, {use.key for use in group if not use.optional}),
            optional=all(use.optional for use in group),
        )
        for group in groups
    ]


def _loop(event: Looped) -> WalkStage:
    uses = list(flat((event,)))
    loop: WalkLoop = "steps" if _over_steps(event) else "times"
    certain = {use.key for use in uses if use.choice or not use.optional}  # a choice is another one each time
    optional = not certain
    if loop == "steps" or not _holds_steps(event):
        name = "denoise" if loop == "steps" else _name(uses)
        return WalkStage(id=name, runs=_runs(uses, certain), loop=loop, optional=optional)
    taken: dict[str, int] = {}
    stages = tuple(_numbered(stage, taken) for stage in _level(event.body))
    return WalkStage(id="chunk", runs=(), stages=stages, loop=loop, optional=optional)


def _over_steps(event: Looped) -> bool:
    return _STEPS.search(event.over) is not None


def _holds_steps(event: Looped) -> bool:
    """Whether the denoising steps are somewhere in the loop: chunks, tiles, stages of a pyramid."""
    loops = [e for e in event.body if isinstance(e, Looped) and any(flat((e,)))]
    return any(_over_steps(loop) or _holds_steps(loop) for loop in loops)


def _runs(uses: Iterable[Ran], certain: set[tuple[str, str]]) -> tuple[WalkUse, ...]:
    """Each use once, optional where others are ``certain`` and it is not. A bare use is all of a component,
    but its entry points are named beside it."""
    keys = dict.fromkeys(use.key for use in uses)
    return tuple(
        WalkUse(component=key[0], entry=key[1], optional=bool(certain) and key not in certain) for key in keys
    )


def _name(uses: Sequence[Ran]) -> str:
    """What people call such a stage, else the name of its first component."""
    first = uses[0]
    if first.entry == "encode" and first.component in ("vae", "movq", "vqvae", "vqgan", "vae_encoder"):
        return "encode"
    if first.entry == "decode":
        return "decode"
    for role, words in _ROLES:
        if any(word in first.component for word in words):
            return role
    return first.component


def _numbered(stage: WalkStage, taken: dict[str, int]) -> WalkStage:
    taken[stage.id] = taken.get(stage.id, 0) + 1
    if taken[stage.id] == 1:
        return stage
    return WalkStage(
        id=f"{stage.id}-{taken[stage.id]}",
        runs=stage.runs,
        stages=stage.stages,
        loop=stage.loop,
        optional=stage.optional,
    )
