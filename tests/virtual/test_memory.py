"""The virtual card's meter: blocks are given back by finalizers, which run wherever a thread is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch

from planner.virtual.memory import Meter


def at_each_step(
    case: Callable[[], tuple[Meter, Callable[[], object], Callable[[], object]]], *, piece: bool = False
) -> int:
    """A new ``case`` is a meter, what to run in it, and what to look at afterwards. Before one instruction of
    the run, each in turn, 10 bytes are given back, of a ``piece`` or not. How many instructions there were.
    """
    failed: list[BaseException] = []
    steps = 0

    def given_at(step: int) -> bool:
        meter, run, look = case()
        passed = 0

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal passed
            if frame.f_locals.get("self") is not meter:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                passed += 1
                if passed == step:
                    meter.give(10, piece=piece)
            return trace

        sys.settrace(trace)
        try:
            run()
        finally:
            sys.settrace(None)
        if passed >= step > 0:
            look()
        return passed >= step

    def work() -> None:
        nonlocal steps
        try:
            given_at(0)  # Python 3.12 tells of instructions from the second call on
            while given_at(steps + 1):
                steps += 1
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)  # one that waits for itself does so for ever
    assert not thread.is_alive()
    if failed:
        raise failed[0]
    return steps


def test_what_is_given_back_at_any_moment_is_counted_once() -> None:
    def case() -> tuple[Meter, Callable[[], object], Callable[[], object]]:
        meter, seen = Meter(), list[int]()
        meter.take(100)

        def run() -> None:
            meter.take(7)
            seen.append(meter.allocated)
            meter.take(11)

        def look() -> None:
            assert meter.allocated == 100 + 7 + 11 - 10
            assert seen[0] in (107, 97)
            assert meter.peak == meter.high
            assert meter.peak in (107, 108, 118)

        return meter, run, look

    assert at_each_step(case) > 50


def test_a_piece_that_is_given_back_at_any_moment_is_none_of_what_lies_beside() -> None:
    def case() -> tuple[Meter, Callable[[], object], Callable[[], object]]:
        meter = Meter()
        meter.take(100, piece=True)

        def run() -> None:
            meter.take(7, piece=True)
            meter.take(11)

        def look() -> None:
            assert (meter.allocated, meter.beside, meter.high) == (100 + 7 + 11 - 10, 11, 11)

        return meter, run, look

    assert at_each_step(case, piece=True) > 30


def test_what_is_given_back_before_it_is_refused_has_room() -> None:
    def case() -> tuple[Meter, Callable[[], object], Callable[[], object]]:
        meter = Meter()
        meter.total = 100
        meter.take(100)
        refused: list[Exception] = []

        def run() -> None:
            try:
                meter.take(5)
            except torch.OutOfMemoryError as error:
                refused.append(error)

        def look() -> None:
            assert meter.allocated == (90 if refused else 95)
            assert meter.refused == len(refused)
            all_refused.append(bool(refused))

        return meter, run, look

    all_refused: list[bool] = []
    assert at_each_step(case) == len(all_refused) > 20
    assert sorted(all_refused) == all_refused  # from the moment on at which it is


def test_what_has_no_room_is_refused() -> None:
    meter = Meter()
    meter.total = 100
    meter.take(60)
    with pytest.raises(torch.OutOfMemoryError, match=r"41 bytes.*capacity of 100 bytes of which 40 bytes"):
        meter.take(41)
    assert (meter.allocated, meter.refused) == (60, 1)
