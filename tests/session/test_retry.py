"""A component's call that ran out of memory, once more."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from planner.session import retry
from planner.session.retry import again
from planner.session.states import state_of
from planner.virtual.device import SimDevice


class Activation:
    pass


@pytest.mark.parametrize("chained", [False, True])
def test_what_the_failed_call_made_is_gone_when_room_is_made(
    chained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an error that was raised while another one was handled too: both have frames. Those of what the
    caller handles are the caller's."""
    state, module = state_of(SimDevice()), nn.Linear(2, 2)
    component = state.residency.manage(module, "m", left_in_place=False)
    made: list[weakref.ref[Activation]] = []
    closed: list[weakref.ref[Activation]] = []
    seen: list[BaseException] = []

    def forward() -> None:
        kept, argument = Activation(), Activation()
        made.append(weakref.ref(kept))
        closed.append(weakref.ref(argument))

        def inner() -> None:
            assert argument
            seen.append(torch.OutOfMemoryError("first"))  # as a log or a debugger keeps it
            raise seen[0]

        inner()

    def made_room(*_: object) -> bool:
        assert made[0]() is None
        return True

    def call() -> str:
        if made:
            assert closed[0]() is None
            return "again"
        try:
            forward()
        finally:
            if chained:
                raise torch.OutOfMemoryError("while the first was on its way")
        return "never"

    def fails_before() -> None:
        callers = Activation()
        made_before.append(weakref.ref(callers))
        raise ValueError

    made_before: list[weakref.ref[Activation]] = []
    monkeypatch.setattr(retry, "_made_room", made_room)
    try:
        fails_before()
    except ValueError:
        assert again(state, component, call) == "again"
        assert made_before[0]() is not None
