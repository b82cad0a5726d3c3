"""Which blocks are fetched, in which order."""

from __future__ import annotations

from collections import Counter
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
        order = random.choices([*sizes], k=2 * count)
        act = random.choice(("turn", "turn", "turn", "begin", "follow", "look", "gone"))
        index = order[0]
        for stepper in (quick, plain):
            if act == "turn":
                stepper.turn(index, wrap=wrap)
            elif act == "begin":
                stepper.begin()
            elif act == "look":
                stepper.look_ahead(wrap=wrap)
            elif act == "gone" and index not in comes:
                stepper.missing.add(index)
                stepper.follow(order)
            else:
                stepper.follow(order)
            plain._coming, plain._then = plain._order, plain._after
        assert told.said == others.said


@pytest.mark.parametrize("seed", range(200))
def test_a_block_is_late_only_where_the_one_before_it_lies_in_its_place(seed: int) -> None:
    """However often a forward enters a block; and each crosses once at most for each of its turns."""
    random, told = Random(seed), Told()
    count = random.randint(2, 12)
    sizes = {index: random.choice((10, 10, 20, 35)) for index in range(count)}
    comes = {index: size for index, size in sizes.items() if random.random() < 0.7} or sizes
    drawn = [*sizes, *random.choices([*sizes], k=random.randint(0, count))]
    if seed % 3:
        random.shuffle(drawn)
    order = [index for at, index in enumerate(drawn) if not at or index != drawn[at - 1]]
    ring = Ring({n: comes[n] for n in order if n in comes}, max(comes.values()) * random.choice((1, 2, 3, 4)))
    stepper = Stepper(ring, told)
    stepper.missing = sizes.keys() - comes.keys()
    stepper.follow(order)
    stepper.look_ahead()
    before = -1
    for forward in range(3):
        stepper.begin()
        for at, index in enumerate(order):
            last, told.said = forward == 2, told.said if at else []
            late = stepper.turn(index, wrap=not last)
            if late:
                assert before in comes
                assert index in comes
                assert ring.places[index] < ring.places[before] + comes[before]
                assert ring.places[before] < ring.places[index] + comes[index]
            before = index
            crossed = Counter(said[1] for said in told.said if said[0] == "ring")
            assert not forward or all(crossed[index] <= order.count(index) for index in sizes)
