"""How long each block of a component computes, from its traced uses and a card's rates."""

from __future__ import annotations

from collections.abc import Mapping

from planner.cards.data import CardData
from planner.predict.profile import CallProfile, UseProfile
from planner.predict.same import remembered
from planner.predict.streamed import FIXED, Work

Pace = tuple[tuple[int, float], ...]


@remembered
def works(call: CallProfile, card: CardData) -> tuple[tuple[Work, ...], ...]:
    """Of each of the call's uses, stretch by stretch."""
    numbers = {
        name: {path: n for n, (path, _) in enumerate(weights.blocks, 1)}
        for name, weights in call.weights.items()
    }
    return tuple(_work(use, card, numbers.get(use.component, {})) for use in call.uses)


def _work(use: UseProfile, card: CardData, numbers: Mapping[str, int]) -> tuple[Work, ...]:
    seconds = [card.seconds(o.kind, o.dtype, o.flops, o.bytes, o.shape) for o in use.operations]
    return tuple(
        Work(
            numbers.get(section.block, FIXED),
            sum(seconds[at] * times for at, times in section.work) * use.pace,
            sum(times for _, times in section.work) * use.pace,
        )
        for section in use.sections
    )


def spread(work: tuple[Work, ...], traced: int, there: int) -> tuple[Work, ...]:
    """``work`` of a component that was traced in other blocks than it has, as quantized weights may be split:
    the ``traced`` ones are laid over the ``there``, in their order, so that each of these computes."""
    if traced == there:
        return work
    found: list[Work] = []
    for one in work:
        first = (one.block - 1) * there // traced + 1 if there and one.block != FIXED else FIXED
        last = max(first, one.block * there // traced) if first != FIXED else FIXED
        share = last - first + 1
        found += [
            Work(block, one.seconds / share, one.operations / share) for block in range(first, last + 1)
        ]
    return tuple(found)


@remembered
def paces(call: CallProfile, card: CardData) -> Mapping[str, Pace]:
    """By component: number (in ``Blocks.streamable``) and seconds of each block in one forward, in the order
    in which they run; of the use that takes the most of the call."""
    found: dict[str, tuple[float, Pace]] = {}
    for number, work in enumerate(works(call, card)):
        name = call.uses[number].component
        times = sum(turn.use == number for turn in call.turns)
        blocks: dict[int, float] = {}
        for stretch in work:
            if stretch.block != FIXED:
                took = card.together(stretch.seconds, stretch.operations)
                blocks[stretch.block - 1] = blocks.get(stretch.block - 1, 0.0) + took
        whole = times * sum(blocks.values())
        if blocks and whole > found.get(name, (0.0, ()))[0]:
            found[name] = (whole, tuple(blocks.items()))
    return {name: pace for name, (_, pace) in found.items()}
