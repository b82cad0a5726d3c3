"""Pipelines run as the catalogue says: every use that a real call makes stands in the class's walk."""

from __future__ import annotations

from collections.abc import Iterable
from functools import wraps
from typing import Any

import pytest
import torch
from pipelines.all import CASES, build, run

from planner.target import catalogue
from planner.target.model import Target, WalkStage, WalkUse


@pytest.mark.parametrize("name", CASES)
def test_a_call_follows_the_walk(name: str) -> None:
    pipe = build(name)
    target = catalogue.find(type(pipe).__name__)
    assert target is not None
    assert target.walk is not None
    uses = recorded(pipe, target)
    run(pipe, name)
    assert uses
    reached = max(after(target.walk, uses, {0}))
    assert reached == len(uses), f"{uses[:reached]}, then {uses[reached]}"
    certain = {str(use) for use in never_skipped(target.walk)}
    assert certain <= set(uses), "said to run for certain"


def test_the_check_can_fail() -> None:
    target = catalogue.find("StableDiffusionXLPipeline")
    assert target is not None
    assert target.walk is not None
    good = ["text_encoder", "text_encoder_2", "unet", "unet", "vae.decode"]
    assert max(after(target.walk, good, {0})) == 5
    assert max(after(target.walk, ["unet", "text_encoder"], {0})) == 1
    assert max(after(target.walk, ["text_encoder", "vae.encode"], {0})) == 1


def recorded(pipe: Any, target: Target) -> list[str]:
    """A list that every use of a component goes to, from outside the component, while the pipeline runs."""
    uses: list[str] = []
    inside: set[str] = set()

    def watch(owner: Any, attribute: str, name: str, text: str) -> None:
        plain = getattr(owner, attribute)

        @wraps(plain)  # some pipelines ask for the signature
        def watched(*args: Any, **kwargs: Any) -> Any:
            if name in inside:
                return plain(*args, **kwargs)
            uses.append(text)
            inside.add(name)
            try:
                return plain(*args, **kwargs)
            finally:
                inside.discard(name)

        owner.__dict__[attribute] = watched

    for name, info in target.components.items():
        module = getattr(pipe, name, None)
        if not isinstance(module, torch.nn.Module):
            continue
        watch(module, "forward", name, name)
        for entry in info.entries:
            *path, last = entry.split(".")
            owner: Any = module
            for part in path:
                owner = getattr(owner, part, None)
            if isinstance(owner, torch.nn.Module) and callable(getattr(owner, last, None)):
                inner = getattr(owner, last)
                if isinstance(inner, torch.nn.Module):
                    watch(inner, "forward", name, f"{name}.{entry}")
                else:
                    watch(owner, last, name, f"{name}.{entry}")
    return uses


def after(walk: Iterable[WalkStage], uses: list[str], places: set[int]) -> set[int]:
    """How far into ``uses`` the walk may be, having been at ``places``: any stage may be left out."""
    for stage in walk:
        found = set(places)
        if stage.stages:
            fresh = found
            while fresh:
                fresh = after(stage.stages, uses, fresh) - found
                found |= fresh
        names = {str(use) for use in stage.runs}
        for place in places:
            while place < len(uses) and uses[place] in names:
                place += 1
                found.add(place)
        places = found
    return places


def never_skipped(walk: Iterable[WalkStage]) -> Iterable[Any]:
    """The uses that are not optional; in a loop, each of several may be another's choice."""
    for stage in walk:
        if not stage.optional:
            runs = [use for use in stage.runs if not (use.optional or reads(use))]
            yield from runs if len(runs) == 1 or not stage.loop else ()
            yield from never_skipped(stage.stages)


def reads(use: WalkUse) -> bool:
    """A tensor's method: nobody is asked to run."""
    return "." in use.entry and hasattr(torch.Tensor, use.entry.rpartition(".")[2])
