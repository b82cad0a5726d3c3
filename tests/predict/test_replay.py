"""Uses replayed: laws, and what was measured of the reserved bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner.predict.allocator import Allocator, NoRoom
from planner.predict.profile import UseProfile
from planner.predict.replay import peak_of, play

MIB = 1 << 20
MEASURED = json.loads((Path(__file__).parent / "measured_reserved.json").read_text())["uses"]
WITHIN = {
    ("sdxl 1024x1024 unet", "plain"): 0.02,
    ("sdxl 1024x1024 unet", "expandable"): 0.05,
    # What the weights' segments had left over on the card served some of it there.
    ("flux-dev 1024x1024 transformer", "plain"): 0.13,
}
"""Where the replay does not give the very bytes that were measured: the share by which it may differ."""


def use_of(row: dict[str, Any]) -> UseProfile:
    return UseProfile(
        component=row["component"],
        entry=row["entry"],
        inputs=row["inputs"],
        events=tuple(row["events"]),
        scratch=frozenset(row["scratch"]),
    )


@pytest.mark.parametrize("mode", ["plain", "expandable"])
@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row["name"])
def test_as_measured(row: dict[str, Any], mode: str) -> None:
    allocator = Allocator(expandable=mode == "expandable")
    allocator.alloc(row["inputs"])
    found, measured = peak_of(use_of(row), allocator), row["measured"][mode]
    assert found.reserved == pytest.approx(measured["reserved"], rel=WITHIN.get((row["name"], mode), 0))
    assert found.kept == found.reserved
    again = peak_of(use_of(row), allocator)
    assert (again.reserved, again.allocated) == (0, found.allocated), "a second use takes from the cache"


def test_scratch_is_left_out() -> None:
    use = UseProfile(component="vae", events=(30 * MIB, 50 * MIB, -1, 20 * MIB), scratch=frozenset({1}))
    assert peak_of(use).allocated == 80 * MIB
    assert peak_of(use, scratch=False).allocated == use.peak(scratch=False) == 50 * MIB
    assert peak_of(use, scratch=False).reserved == 50 * MIB


def test_scratch_that_finds_no_room_is_done_without() -> None:
    use = UseProfile(component="vae", events=(30 * MIB, 50 * MIB, -1, 20 * MIB), scratch=frozenset({1}))
    found = peak_of(use, Allocator(cap=64 * MIB))
    assert (found.allocated, found.reserved) == (50 * MIB, 50 * MIB)
    assert found.retries == 1


def test_what_must_be_there_raises_and_is_freed() -> None:
    allocator = Allocator(cap=64 * MIB)
    with pytest.raises(NoRoom):
        play(allocator, UseProfile(component="vae", events=(30 * MIB, 50 * MIB)))
    assert allocator.allocated == 0


def test_inputs_come_first() -> None:
    use = UseProfile(component="vae", inputs=20 * MIB, events=(30 * MIB, -1))
    allocator = Allocator()
    assert peak_of(use, allocator, inputs=True).allocated == 30 * MIB
    assert (allocator.allocated, allocator.reserved) == (0, 50 * MIB)


def test_earlier_uses_leave_their_cache() -> None:
    allocator = Allocator()
    peak_of(UseProfile(component="text_encoder", events=(100 * MIB, -1)), allocator)
    found = peak_of(UseProfile(component="vae", events=(40 * MIB, 60 * MIB)), allocator)
    assert (found.allocated, found.reserved) == (100 * MIB, 0)


def test_the_profile_and_the_replay_agree_on_allocated_bytes() -> None:
    for row in MEASURED:
        use = use_of(row)
        assert peak_of(use, Allocator(expandable=True)).allocated == use.peak()
