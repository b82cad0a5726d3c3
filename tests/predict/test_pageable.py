"""Under ``budget.pinned`` a forecast copies as pageable what a session would not register."""

from __future__ import annotations

from random_calls import random_call

import planner
from planner.cards.shipped import card_at
from planner.predict.forecast import Forecast
from planner.schedule.card import Here, Room
from planner.source.text import SourceText
from planner.target.extents import PIECE

DATA = card_at("h200")


def forecast(*more: str) -> Forecast:
    made = random_call(3, most=3, blocks=12)
    budget = made.bytes // 2
    text = made.text + f"budget: {{vram: {budget}B{''.join(f', {one}' for one in more)}}}\n"
    compiled = planner.compile(
        planner.load(SourceText(name="x.plan.yaml", text=text)),
        made.target,
        card=Here(Room(budget + DATA.context, DATA.context), DATA),
        call=made.call,
    )
    assert compiled.forecast is not None
    return compiled.forecast


def test_more_that_is_pinned_is_never_slower_and_in_part_counts() -> None:
    whole = forecast()
    size = whole.samples[0].host
    assert whole.samples[0].pinned == size
    made = [forecast(f"pinned: {max(1, size * share // 8)}B") for share in range(9)]
    seconds = [one.seconds for one in made]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > seconds[4] > seconds[8]
    assert seconds[8] == whole.seconds
    for share, one in enumerate(made):
        limit = size * share // 8
        assert limit - PIECE < one.samples[0].pinned <= limit
        assert one.moved == whole.moved
