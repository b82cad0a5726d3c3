"""Uses that are played once for many plans: all is as if each were played every time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from random_calls import Made, random_call

import planner
from planner.cards.shipped import card_at
from planner.predict.allocator import Allocator, Block, NoRoom
from planner.predict.call import forecast, outcome
from planner.predict.forecast import Outcome
from planner.predict.profile import UseProfile
from planner.predict.replay import play, release
from planner.predict.replays import Replays
from planner.predict.streamed import ClockWeights, Forwards, Tape, Work
from planner.schedule.card import Here, Room
from planner.source.text import SourceText

KIB, MIB = 1 << 10, 1 << 20
DATA = card_at("h200")


def random_use(random: Random) -> UseProfile:
    """Sizes of both pools, with scratch, some of it left."""
    events, live, count = [60000 * 512], [0], 1
    for _ in range(random.randint(1, 40)):
        if live and random.random() < 0.45:
            events.append(live.pop(random.randrange(len(live))) - count)
        else:
            events.append(512 * random.choice((1, 300, 2048, 5000, 20000, 60000)))
            live.append(count)
            count += 1
    scratch = frozenset(n for n in range(count) if random.random() < 0.2)
    return UseProfile(component="x", events=tuple(events), scratch=scratch)


def figures(allocator: Allocator) -> tuple[object, ...]:
    peaks = allocator.peak_allocated, allocator.peak_reserved, allocator.peak_asked
    return allocator.state, allocator.allocated, allocator.reserved, peaks, allocator.retries


def step(random: Random, uses: list[UseProfile]) -> tuple[str, object]:
    what = random.choice(("play", "play", "play", "release", "empty", "reset", "cap", "hold"))
    if what == "play":
        return what, random.choice(uses)
    if what == "cap":
        return what, random.choice((None, *(MIB * n for n in (8, 30, 60, 90, 150, 400))))
    return what, MIB * random.choice((1, 3, 30))


def take(
    allocator: Allocator, held: list[Block], what: str, given: object, replays: Replays | None
) -> list[Block]:
    if what == "play":
        assert isinstance(given, UseProfile)
        return held + (play(allocator, given) if replays is None else replays.play(allocator, given))
    if what == "release":
        release(allocator, held)
        return []
    if what == "hold":
        assert isinstance(given, int)
        return [*held, allocator.alloc(given)]
    if what == "cap":
        allocator.cap = given  # type: ignore[assignment]
    elif what == "empty":
        allocator.empty_cache()
    else:
        allocator.reset_peak()
    return held


def tried(
    allocator: Allocator, held: list[Block], what: str, given: object, replays: Replays | None
) -> tuple[list[Block], tuple[int, int, int] | None]:
    """What is held then, and what was lacking."""
    try:
        return take(allocator, held, what, given, replays), None
    except NoRoom as error:
        return held, (error.size, error.reserved, error.cap)


@pytest.mark.parametrize("seed", range(12))
def test_as_if_each_was_played(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on two allocators, one of which takes what was played before; the same steps come again and
    again, with other caps."""
    random, replays = Random(seed), Replays()
    uses = [random_use(random) for _ in range(3)]
    played = 0

    def counted(allocator: Allocator, use: UseProfile) -> list[Block]:
        nonlocal played
        played += 1
        return play(allocator, use)

    monkeypatch.setattr("planner.predict.replays.play", counted)
    asked = refused = 0
    for again in range(60):
        order = Random(seed * 100 + again % 3)
        plain, known = (Allocator(expandable=bool(seed % 2)) for _ in range(2))
        left: list[Block] = []
        others: list[Block] = []
        for number in range(12):
            what, given = step(order, uses) if number else ("cap", MIB)
            if what == "cap" and given is not None:
                given = MIB * random.choice((8, 30, 60, 90, 150, 400))
            asked += what == "play"
            found = tried(plain, left, what, given, None)
            repeated = tried(known, others, what, given, replays)
            assert repeated[1] == found[1]
            refused += found[1] is not None
            left, others = found[0], repeated[0]
            assert figures(known) == figures(plain)
            assert [block.at for block in others] == [block.at for block in left]
    assert refused
    assert played < asked / 3, "each of them was played anew"


def test_what_was_interrupted_is_not_taken_for_played(monkeypatch: pytest.MonkeyPatch) -> None:
    replays, use = Replays(), UseProfile(component="x", events=(30 * MIB, 50 * MIB))

    def interrupted(allocator: Allocator, use: UseProfile) -> list[Block]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("planner.predict.replays.play", interrupted)
        with pytest.raises(KeyboardInterrupt):
            replays.play(Allocator(), use)
    assert [block.size for block in replays.play(Allocator(), use)] == [30 * MIB, 50 * MIB]


def test_what_expands_and_what_does_not_are_told_apart() -> None:
    replays, use = Replays(), UseProfile(component="x", events=(11 * MIB, -1, 25 * MIB))
    for expandable in (False, True):
        plain, known = (Allocator(expandable=expandable) for _ in range(2))
        play(plain, use)
        replays.play(known, use)
        assert figures(known) == figures(plain)


@pytest.mark.parametrize("seed", range(10))
def test_an_outcome_is_that_of_the_forecast(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was played and written down for other plans, under other budgets; where that is too much to
    be kept, with a part of it."""
    if seed % 2:
        monkeypatch.setattr("planner.predict.streamed.MOST", 100)
    written = played = 0
    plain = ClockWeights._written_down

    def counted(weights: ClockWeights, work: Sequence[Work], *, last: bool) -> Tape:
        nonlocal written
        written += 1
        return plain(weights, work, last=last)

    made, random, replays = random_call(seed), Random(seed), Replays()
    for share in (0.3, 0.5, 0.8, 1.3, 0.45):
        for settings in (["idle=keep"], ["idle=release"], policies(random, made)):
            budget = int(made.bytes * share) + 300 * MIB
            plan = planner.load(SourceText(name="x", text=made.plan(budget)), overrides=settings)
            card = Here(Room(budget + DATA.context, DATA.context), DATA)
            try:
                compiled = planner.compile(plan, made.target, card=card, call=made.call, advice=False)
            except planner.PlanError:
                continue
            asked = compiled.graph, compiled.schedule, made.call, DATA
            with monkeypatch.context() as patch:
                patch.setattr(ClockWeights, "_written_down", counted)
                found, before = outcome(*asked, replays), written
                patch.setattr(Forwards, "keep", lambda *_: None)
                told, anew = forecast(*asked), written - before
            assert found == Outcome(**{name: getattr(told, name) for name in Outcome.__slots__})
            played += anew
            written = before
    assert 0 < written < played / 2


def policies(random: Random, made: Made) -> list[str]:
    return [
        f"components.{name}.policy={random.choice(('stream', 'offload', 'resident'))}"
        for name in made.call.weights
        if random.random() < 0.5
    ]
