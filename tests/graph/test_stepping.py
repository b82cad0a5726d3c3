"""Which blocks are fetched, in which order."""

from __future__ import annotations

from random import Random

import pytest

from planner.graph.ring import Ring
from planner.graph.stepping import Stepper


class Told:
    """What the rules asked for."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def ran(self) -> None:
        self.said.append(("ran",))

    def fetch(self, index: int) -> None:
        self.said.append(("fetch", index))

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        self.said.append(("ring", index, *overwritten))

    def arrive(self, index: int) -> None:
        self.said.append(("arrive", index))


@pytest.mark.parametrize("seed", range(60))
def test_blocks_that_stay_are_passed_over(seed: int) -> None:
    """With only those looked through that come, all is asked for as it is with all of them."""
    random, wrap = Random(seed), seed % 2 == 1
    count = random.randint(1, 12)
    sizes = {index: random.choice((10, 10, 20, 35)) for index in range(count)}
    comes = {index: size for index, size in sizes.items() if random.random() < 0.5}
    room = max(comes.values(), default=0) * random.choice((1, 2, 3))
    told, others = Told(), Told()
    quick, plain = Stepper(Ring(comes, room), told), Stepper(Ring(comes, room), others)
    for stepper in (quick, plain):
        stepper.missing = sizes.keys() - comes.keys()
    for _ in range(40):
        order = random.sample([*sizes], count)
        act, index = random.choice(("turn", "turn", "turn", "follow", "look", "gone")), order[0]
        for stepper in (quick, plain):
            if act == "turn":
                stepper.turn(index, wrap=wrap)
            elif act == "look":
                stepper.look_ahead(wrap=wrap)
            elif act == "gone" and index not in comes:
                stepper.missing.add(index)
                stepper.follow(order)
            else:
                stepper.follow(order)
            plain._coming, plain._then = plain._order, plain._after
        assert told.said == others.said
