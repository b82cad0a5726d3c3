"""The best of a space of choices: all of them where they are few, else local search from several starts, and
once more from each choice.

Deterministic: costs are whole microseconds; of equal costs the plan with fewer settings wins, then the one
whose choices come first in the file's order. There are limits of how many plans are priced, and none of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from math import prod

from planner.fitting.bound import NEVER, Bounds
from planner.fitting.choices import Choice, Settings, Space
from planner.fitting.price import Price, Pricer, Refused

ALL = 192
"""Spaces of at most so many plans are searched whole."""
MOST = 64
"""In other spaces so many plans are priced by changing one choice after the other, as many again by changing
two at once, or keeping one, and half as many of those that the bounds leave, in the order of the choices."""

MANY = 16
"""Subjects, from which on fewer plans are priced."""
LARGEST = 8
"""So many subjects are changed two at once, and told of with all that they could have been."""

Point = tuple[int, ...]
"""Of each subject the number of its choice."""


@dataclass(slots=True)
class Found:
    """``point`` in ``space``, what it is priced at, ``whole``: no plan of the space is better; ``prices``: of
    all that were priced."""

    space: Space
    point: Point
    price: Price
    whole: bool
    prices: dict[Point, Price | Refused] = field(default_factory=dict)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One a subject."""
        return tuple(of[at] for of, at in zip(self.space, self.point, strict=True))

    @property
    def settings(self) -> Settings:
        """Of all subjects."""
        return settings_of(self.space, self.point)


class NothingFits(Exception):
    """No plan of the space does; ``refused`` are the reasons, of the plan that leaves all open first."""

    def __init__(self, refused: Sequence[Refused]) -> None:
        super().__init__(refused[0].why if refused else "")
        self.refused = tuple(refused)


def settings_of(space: Space, point: Point) -> Settings:
    """What the choices at ``point`` write."""
    return tuple(s for of, at in zip(space, point, strict=True) for s in of[at].settings)


class Search:
    """``bounds``: what any plan takes at least with some choices, the others open."""

    def __init__(self, space: Space, pricer: Pricer, bounds: Bounds) -> None:
        self._space = space
        self._pricer = pricer
        self._bounds = bounds
        self._more = [[bounds.more(choice) for choice in of] for of in space]
        self.prices: dict[Point, Price | Refused] = {}
        self._best: Point | None = None
        self._enough = 0
        self._first = False

    def run(
        self,
        starts: Sequence[Point],
        *,
        everything: int = ALL,
        most: int = MOST,
        enough: int = 0,
        first: bool = False,
    ) -> Found:
        """``enough``: microseconds with which a local search is content; ``first``: any plan that fits will
        do. Raises NothingFits."""
        self._first = first
        whole = prod(map(len, self._space)) <= everything
        self._enough = 0 if whole else enough
        for start in ((0,) * len(self._space), *starts):
            self._price(start)
        if whole:
            self._branch((), NEVER)
        else:
            self._descend_each(most)
            if len(self._space) <= MANY:
                self._branch((), len(self.prices) + most // 2)
        if self._best is None:
            reasons = [p for p in self.prices.values() if isinstance(p, Refused)]
            raise NothingFits(reasons)
        price = self.prices[self._best]
        assert isinstance(price, Price)
        return Found(self._space, self._best, price, whole, self.prices)

    def beside(self, found: Found) -> dict[str, list[tuple[Choice, Price | Refused]]]:
        """By subject, every other choice with all else as it is found, the best first; none of a small
        subject, or of any where there are many, unless all were priced."""
        large = self._large(range(len(found.point))) if len(found.point) <= MANY else ()
        made: dict[str, list[tuple[Choice, Price | Refused]]] = {}
        for subject, choices in enumerate(self._space):
            points = {at: _moved(found.point, subject, at) for at in range(len(choices))}
            del points[found.point[subject]]
            asked = subject in large or self.prices.keys() >= {*points.values()}
            others = [(choices[at], self._price(point)) for at, point in points.items() if asked]
            made[choices[0].subject] = sorted(others, key=lambda pair: _cost_of(pair[1]))
        return made

    def simplest(self, found: Found, tolerance: float) -> Found:
        """The same without choices whose gain is less than ``tolerance``, a share of the cost, together."""
        here, allowed = found.point, int(found.price.cost * (1 + tolerance))
        for subject in range(len(here)):
            point = _moved(here, subject, 0)
            price = self._price(point)
            fewer = len(settings_of(self._space, point)) < len(settings_of(self._space, here))
            if fewer and isinstance(price, Price) and price.cost <= allowed:
                here = point
        price = self.prices[here]
        assert isinstance(price, Price)
        return replace(found, point=here, price=price)

    # -- inside

    def _price(self, point: Point) -> Price | Refused:
        if point not in self.prices:
            exact = any(of[at].exact for of, at in zip(self._space, point, strict=True))
            self.prices[point] = self._pricer.price(settings_of(self._space, point), exact=exact)
            if isinstance(self.prices[point], Price) and (
                self._best is None or self._rank(point) < self._rank(self._best)
            ):
                self._best = point
        return self.prices[point]

    def _rank(self, point: Point) -> tuple[int, int, Point]:
        return _cost_of(self.prices[point]), len(settings_of(self._space, point)), point

    def _cost(self) -> int:
        return NEVER if self._best is None else _cost_of(self.prices[self._best])

    def _hopeless(self, chosen: Point) -> bool:
        """Whether no plan that begins with ``chosen`` is as good as the best that was found, or need be."""
        if self._first and self._best is not None:
            return True
        if max(self._quick(chosen), self._enough + 1) > self._cost():
            return True
        choices = [of[at] for of, at in zip(self._space, chosen, strict=False)]
        return self._bounds.exact(choices) > self._cost()

    def _quick(self, chosen: Point) -> int:
        return self._bounds.quick(sum(of[at] for of, at in zip(self._more, chosen, strict=False)))

    def _branch(self, chosen: Point, most: int) -> None:
        """Every plan that begins with ``chosen``, but those whose bound is above what was found; none once
        ``most`` are priced."""
        if len(self.prices) >= most or self._hopeless(chosen):
            return
        if len(chosen) == len(self._space):
            self._price(chosen)
            return
        for at in range(len(self._space[len(chosen)])):
            self._branch((*chosen, at), most)

    def _descend_each(self, most: int) -> None:
        """From the best start of each choice of the last subject: what is best between calls is not seen
        before the components are chosen for it. Then further from the best that was found, as long as that
        is better."""
        last, count = len(self._space) - 1, len(self._space)
        most = min(most, most * MANY // count)  # a plan of more components takes longer to price
        for at in range(len(self._space[last])):
            self._price((*(0,) * last, at))
        begun = [*self.prices]
        for at in range(len(self._space[last])):
            here = min((p for p in begun if p[last] == at), key=self._rank)
            self._descend(here, len(begun) + most * (at + 1) // len(self._space[last]))
        limit, here, before = len(self.prices) + most, self._best or begun[0], None
        while before != here:
            before = here
            self._descend(here, limit)
            self._by_two(self._best or here, limit)
            if self._best == before:
                self._by_each(before, limit)
            here = self._best or here

    def _by_each(self, here: Point, most: int) -> None:
        """With each other choice of each subject, from the best plan with it that was priced: what suits one
        choice may be far from what suits another. Until one is better than ``here``."""
        for subject in self._by_size(range(len(here))):
            for at in range(len(self._space[subject])):
                start = min((p for p in self.prices if p[subject] == at), key=self._rank, default=here)
                if start[subject] != here[subject]:
                    there = self._descend(start, most, but=subject)
                    if subject == len(here) - 1:
                        self._by_two(there, most, but=subject)
                if self._best != here or len(self.prices) >= most:
                    return

    def _by_two(self, here: Point, most: int, but: int = -1) -> None:
        """Of every two subjects, the largest ones, other choices, one gives up what the other takes: those
        that lose the least alone first, or do not fit alone; until one is better."""
        made = []
        subjects = [subject for subject in self._large(range(len(here))) if subject != but]
        for a, b in combinations(subjects, 2):
            for at, to in product(range(len(self._space[a])), range(len(self._space[b]))):
                one, other = _moved(here, a, at), _moved(here, b, to)
                point = _moved(one, b, to)
                if at != here[a] and to != here[b] and point not in self.prices:
                    loses = self._loses(one, here) + self._loses(other, here)
                    made.append((loses, self._quick(point), point))
        for _, _, point in sorted(made):
            if len(self.prices) >= most:
                return
            if not self._hopeless(point):
                self._price(point)
            if self._best == point:
                return

    def _loses(self, point: Point, here: Point) -> int:
        """Microseconds that it takes longer than ``here``, 0 where it does not fit."""
        price = self.prices.get(point)
        return max(0, price.cost - _cost_of(self.prices[here])) if isinstance(price, Price) else 0

    def _descend(self, here: Point, most: int, but: int = -1) -> Point:
        """One subject after the other, the largest first, until no other choice of any is better; ``but`` of
        one that is kept as it is. Where it ends."""
        subjects = [subject for subject in self._by_size(range(len(here))) if subject != but]
        before = None
        while before != here:
            before = here
            for subject in subjects:
                for at in range(len(self._space[subject])):
                    point = _moved(here, subject, at)
                    if point not in self.prices:
                        if len(self.prices) >= most or self._hopeless(point):
                            continue
                        self._price(point)
                    if self._rank(point) < self._rank(here):
                        here = point
        return here

    def _large(self, subjects: Sequence[int]) -> list[int]:
        """The largest, and the last."""
        return sorted({*self._by_size(subjects)[:LARGEST], *subjects[-1:]})

    def _by_size(self, subjects: Iterable[int]) -> list[int]:
        return sorted(subjects, key=lambda s: (-max(c.high for c in self._space[s]), s))


def _cost_of(price: Price | Refused) -> int:
    return price.cost if isinstance(price, Price) else NEVER


def _moved(point: Point, subject: int, at: int) -> Point:
    return (*point[:subject], at, *point[subject + 1 :])
