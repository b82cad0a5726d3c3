"""All cases of a pipeline under a policy, in the order of a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from faults.case import ERRORS, NEXT, Case
from faults.world import World


def cases(world: World, seed: int, phases: tuple[str, ...] = ()) -> Iterator[Case]:
    """Without end. Phases in turn, and in each the kinds of sites in turn, each by a shuffled deck that is
    dealt to the end before a site comes twice."""
    draw = random.Random(f"{seed} {world.name} {world.policy}")
    decks: dict[tuple[str, str], list[tuple[str, int]]] = {}
    turns: dict[str, int] = {}
    while True:
        for phase in [phase for phase in world.phases if not phases or phase in phases]:
            sites = world.count(phase).sites()
            kinds = sorted({site.partition(":")[0] for site in sites})
            kind = kinds[turns.setdefault(phase, draw.randrange(len(kinds))) % len(kinds)]
            turns[phase] += 1
            if kind in ("forward", "step", "callback") and draw.random() < 0.5:
                kind = "line"
            deck = decks.setdefault((phase, kind), [])
            if not deck:
                deck += [
                    (site, nth)
                    for site, count in sites.items()
                    if site.partition(":")[0] == kind
                    for nth in sorted({1, (count + 1) // 2, count, draw.randint(1, count)})
                ]
                draw.shuffle(deck)
            site, nth = deck.pop()
            error = draw.choice([*ERRORS])
            again = draw.randint(1, 150) if kind != "line" and draw.random() < 0.25 else 0
            yield Case(world.name, world.policy, phase, site, nth, error, again, draw.choice(NEXT))
