"""What a call that raised may have missed, and what it raised in few words."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from planner.plan.run import IMAGES, VIDEOS

ADAPTERS = ("ip_adapter", "negative_ip_adapter", "gligen")
"""Images that most calls do without."""
TEXTS = ("prompt",)
LONGEST = 300
"""Characters; torch tells of an operation that a device lacks where each of its kernels was registered."""


def brief(error: BaseException) -> str:
    """The first of what an exception says, on one line; ``...`` where more is left out."""
    said = " ".join(str(error).split())
    if len(said) <= LONGEST:
        return said
    return said[:LONGEST].rsplit(" ", 1)[0] + " ..."


def lacking(cls: type, given: Collection[str]) -> str:
    """What the call of ``cls`` may have missed beside the arguments ``given``: those without a default,
    images and the prompt; empty where it has them all."""
    try:
        taken = inspect.signature(cls.__call__).parameters
    except (TypeError, ValueError):
        return ""
    needed = [
        name
        for name, parameter in taken.items()
        if name not in given
        and name != "self"
        and not name.startswith(ADAPTERS)
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and (
            parameter.default is parameter.empty
            or name in IMAGES | VIDEOS
            or (name in TEXTS and f"{name}_embeds" not in given)
        )
    ]
    if not needed:
        return ""
    ways = [f"--set run.{name}=FILE" for name in needed if name in IMAGES | VIDEOS]
    ways += [f"--set run.{name}=TEXT" for name in needed if name in TEXTS]
    said = f"run has no {', '.join(needed)}"
    return said + (f": {' '.join(ways[:1])}" if ways else ", which only a script can make")
