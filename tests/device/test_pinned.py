"""Which memory is registered, and where copies are cut, without a card."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from registering import Runtime

from planner.device.pinned import Pins, file_backed

PAGE = 4096


def pins_with(runtime: Runtime, budget: int | None = None) -> Pins:
    pins = Pins(torch.device("cpu"), budget)
    pins._runtime = runtime
    return pins


def neighbours(seed: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    address, made = PAGE * 10 + 64, []
    for _ in range(100):
        nbytes = rng.choice([100, 5000, 8192, 1 << 20, 600 << 20])
        made.append((address, nbytes))
        address += nbytes + rng.choice([0, 16, 300])
    return made


@pytest.mark.parametrize("seed", range(5))
def test_no_registration_begins_or_ends_in_somebody_elses_memory(seed: int) -> None:
    """Who lies between two of our tensors is registered whole or not at all: no copy of theirs is cut."""
    runtime = Runtime()
    ranges = neighbours(seed)
    pins = pins_with(runtime)
    pins.add(ranges[:50])
    pins.add(ranges)  # what is registered already is left alone
    ours = [(a, a + n) for a, n in ranges]
    others = [(0, ours[0][0]), *((a, b) for (_, a), (b, _) in pairwise(ours)), (ours[-1][1], 1 << 60)]
    for start, end in runtime.spans():
        assert start % PAGE == end % PAGE == 0
        assert not any(a < border < b for a, b in others for border in (start, end))
        pages = {page for a, b in ours if a < end and start < b for page in (a // PAGE, (b - 1) // PAGE)}
        inside = [(a, b) for a, b in others if start <= a and b <= end]
        assert all({a // PAGE, (b - 1) // PAGE} <= pages for a, b in inside if a < b)
    assert pins.nbytes > 0.99 * sum(n for _, n in ranges)


def test_tensors_of_whole_pages_that_lie_side_by_side_cross_in_one_copy_each() -> None:
    """As malloc lays them: 64 bytes into a page, each in pages of its own."""
    size = 18 << 20
    ranges = [(PAGE * 10 + 64 + n * (size + PAGE), size) for n in range(100)]
    pins = pins_with(runtime := Runtime())
    pins.add(ranges)
    lengths = [[*pins.cuts(*where)] for where in ranges]
    assert sum(map(len, lengths)) <= len(ranges) + 2 * len(runtime.registered)


@pytest.mark.parametrize("seed", range(5))
def test_no_copy_runs_across_a_border(seed: int) -> None:
    runtime = Runtime()
    ranges = neighbours(seed)
    pins = pins_with(runtime)
    pins.add(ranges)
    borders = {edge for span in runtime.spans() for edge in span}
    for address, nbytes in ranges:
        at = address
        for length in pins.cuts(address, nbytes):
            assert length > 0
            assert not any(at < border < at + length for border in borders)
            at += length
        assert at == address + nbytes


def test_a_budget_is_kept_and_the_rest_stays_pageable() -> None:
    runtime = Runtime()
    pins = pins_with(runtime, budget=1 << 30)
    pins.add(neighbours(0))
    assert 0 < sum(runtime.registered.values()) <= 1 << 30
    assert pins.over > 0
    assert pins.refused == 0


def test_a_machine_that_refuses_is_no_error() -> None:
    runtime = Runtime(room=1 << 30)
    pins = pins_with(runtime)
    pins.add(neighbours(0))
    assert pins.nbytes == sum(runtime.registered.values()) <= 1 << 30
    assert pins.refused > 0
    assert pins.over == 0


def test_what_the_machine_refused_is_left_of_the_budget() -> None:
    runtime = Runtime(room=0)
    pins = pins_with(runtime, budget=8 * PAGE)
    pins.add([(16 * PAGE, 8 * PAGE)])
    assert (pins.nbytes, pins.over, pins.refused) == (0, 0, 8 * PAGE)
    runtime.room = None
    pins.add([(64 * PAGE, 8 * PAGE)])
    assert pins.nbytes == 8 * PAGE


def test_close_gives_everything_back() -> None:
    runtime = Runtime()
    pins = pins_with(runtime)
    pins.add(neighbours(0))
    pins.close()
    pins.close()
    assert runtime.registered == {}


def test_a_mapped_file_is_told_from_memory(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "weights"
    path.write_bytes(bytes(1 << 16))
    mapped = torch.from_file(str(path), size=1 << 14, dtype=torch.float32)
    anonymous = torch.zeros(1 << 20)
    found = file_backed([mapped.data_ptr(), anonymous.data_ptr()])
    assert found == {mapped.data_ptr()}
