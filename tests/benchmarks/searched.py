"""``python -m tests.benchmarks.searched``: seconds of the processor that fits take. No card.

A made-up pipeline of 40 components of 60 blocks, without ``--models``; with it, models that ship, by how
their names begin ("" for all). A JSON line for each: seconds, plans that were compared, and how far the best
is from its bound.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

import planner
from planner.cards.shipped import card_at
from planner.fitting.solution import Solution, Task, solve_task
from planner.models.model import models
from planner.schedule.card import Here, Room
from planner.source.text import SourceText

COMPONENTS, BLOCKS, STEPS = 40, 60, 28
PACE = 0.1
"""Of the seconds that it would compute: what copies take is then about as long."""
LINES = 25


@click.command(help=__doc__)
@click.option("--models", "names", default=None)
@click.option("--card", default="h200")
@click.option("--vram", default="12GiB", help="Of the models that ship.")
@click.option("--share", default=0.05, help="Of its weights, the budget of the pipeline that is made up.")
@click.option("--profile", is_flag=True, help="Where the seconds go, on stderr.")
def main(names: str | None, card: str, vram: str, share: float, profile: bool) -> None:
    todo = made_up(card, share) if names is None else shipped(names, card, vram)
    for name, solve in todo:
        watch = cProfile.Profile()
        start = time.process_time()
        found = watch.runcall(solve) if profile else solve()
        took = time.process_time() - start
        about = {"plans": len(found.found.prices), "cost": found.price.cost, "gap": round(found.gap, 4)}
        print(json.dumps({"name": name, "seconds": round(took, 2), **about}), flush=True)
        if profile:
            pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(LINES)


def made_up(card: str, share: float) -> Iterator[tuple[str, Callable[[], Solution]]]:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest's pythonpath
    from random_calls import random_call

    data = card_at(card)
    made = random_call(0, most=COMPONENTS, blocks=BLOCKS, steps=STEPS, full=True)
    call = replace(made.call, uses=tuple(replace(use, pace=PACE) for use in made.call.uses))
    budget = int(made.bytes * share)
    task = Task(
        plan=planner.load(SourceText(name="x.plan.yaml", text=made.plan(budget))),
        call=call,
        card=Here(Room(budget + data.context, data.context), data),
        data=data,
        target=made.target,
    )
    yield f"{COMPONENTS} components of {BLOCKS} blocks", partial(solve_task, task)


def shipped(names: str, card: str, vram: str) -> Iterator[tuple[str, Callable[[], Solution]]]:
    for hub in sorted({model.ids[0] for name, model in models().items() if model.name.startswith(names)}):
        yield hub, partial(fitted, hub, card, vram)


def fitted(hub: str, card: str, vram: str) -> Solution:
    return planner.fit(hub, vram=vram, card=card).solution


if __name__ == "__main__":
    main()
