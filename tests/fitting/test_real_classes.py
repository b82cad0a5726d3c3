"""The local search finds what trying everything finds, for real classes over few choices; no plan is below
the bound."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from random import Random

import pytest
from enlarged_calls import Enlarged, enlarged

import planner
from planner.cards.shipped import card_at
from planner.diagnostics.diagnostic import PlanError
from planner.fitting.bound import Bounds, lower
from planner.fitting.choices import Choice, Space
from planner.fitting.price import MARGIN, MARGIN_MOST
from planner.fitting.search import Search
from planner.fitting.solution import Task, problem_for, space_for, starts_of
from planner.schedule.card import Here, Room
from planner.source.text import SourceText

DATA = card_at("h200")
FEW = 256
"""Plans of a space at most."""
USUAL = ("KandinskyV22Pipeline",)
CLASSES = (
    "StableDiffusionPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableVideoDiffusionPipeline",
    "TextToVideoSDPipeline",
    "StableCascadeCombinedPipeline",
    "KandinskyV22Pipeline",
    "DiTPipeline",
    "StableUnCLIPPipeline",
    "FluxPipeline",
    "FluxControlNetPipeline",
    "ChromaPipeline",
    "StableDiffusion3Pipeline",
    "QwenImagePipeline",
    "PixArtSigmaPipeline",
    "HunyuanDiTPipeline",
    "Lumina2Pipeline",
    "SanaPipeline",
    "WanPipeline:two",
    "LTXPipeline",
    "HunyuanVideoPipeline",
)


def task_for(made: Enlarged, random: Random) -> Task:
    budget = int((made.weights + made.activations) * random.choice((0.65, 0.7, 0.75, 0.85, 1.1)))
    return Task(
        plan=planner.load(SourceText(name="x.plan.yaml", text=made.plan(budget))),
        call=made.call,
        card=Here(Room(budget + DATA.context, DATA.context), DATA),
        data=DATA,
        objective=random.choice(("steady", "first")),
        target=made.target,
    )


def coarse(space: Space, random: Random) -> Space:
    """At most ``FEW`` plans: of some subjects fewer choices, the plan's own always."""
    made = [[*of] for of in space]
    while prod(map(len, made)) > FEW:
        of = random.choice([of for of in made if len(of) == max(map(len, made))])
        of.pop(random.randrange(1, len(of)))
    return tuple(map(tuple, made))


def costs(task: Task, space: Space) -> Iterator[tuple[tuple[Choice, ...], int]]:
    """Each plan of the space that fits, and its microseconds: compiled and foretold by itself."""
    most = task.room.budget
    assert most is not None
    for choices in product(*space):
        try:
            forecast = task.compiled(tuple(s for choice in choices for s in choice.settings)).forecast
        except PlanError:
            continue
        assert forecast is not None
        left = min(most // MARGIN, MARGIN_MOST) if any(choice.exact for choice in choices) else 0
        if forecast.fits and not forecast.short and (not left or forecast.peak <= most - left):
            seconds = forecast.seconds if task.objective == "steady" else forecast.first
            yield choices, round(seconds * 1e6)


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.wide) for name in CLASSES]
)
def test_the_local_search_is_as_good_as_trying_everything(name: str) -> None:
    judge(name, Random(name))


@pytest.mark.parametrize(
    ("name", "seed"),
    [("StableVideoDiffusionPipeline", 1), pytest.param("StableDiffusionPipeline", 9, marks=pytest.mark.wide)],
)
def test_also_where_it_was_not(name: str, seed: int) -> None:
    """A VAE that encodes enters no block of its decoder: its plans were below the bound. In the other one two
    choices have to change at once, one of which does not fit alone."""
    judge(name, Random(f"{name}{seed}"))


def judge(name: str, random: Random) -> None:
    task = task_for(enlarged(name), random)
    problem = problem_for(task)
    space = coarse(space_for(task, problem), random)
    every, bounds = [*costs(task, space)], Bounds(problem)
    found = Search(space, task.pricer(), bounds).run([*starts_of(space)], everything=0)
    assert not found.whole
    assert found.price.cost == min(cost for _, cost in every)
    for choices, cost in every:
        assert lower(problem) <= cost
        assert bounds.exact(choices) <= cost
        assert bounds.quick(sum(map(bounds.more, choices))) <= cost
