"""How much of a component stays, once it is known what its blocks compute."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from planner.device.pinned import Pins
from planner.graph.model import Placement
from planner.plan.model import Policy
from planner.session.component import ManagedComponent, Wish
from planner.source.text import Span

KB = 1000
LEAVES = {57: 0.1e-6, 75: 0.5e-6, 58: 1.4e-6, 94: 0.8e-6}
"""Kilobytes, and seconds that they compute: at 0.6 of it, about as long as what is left takes to come."""


@pytest.mark.parametrize(("prefetch", "ahead"), [(None, 2), (1, 1)])
def test_one_more_comes_ahead_where_that_is_quicker_unless_the_plan_says_how_many(
    prefetch: int | None, ahead: int
) -> None:
    sizes = [n * KB // 4 for n in LEAVES] * 30
    module = torch.nn.Sequential(*(torch.nn.Linear(1, n, bias=False) for n in sizes))
    room = int(0.6 * sum(p.nbytes for p in module.parameters()))
    placement = Placement(
        component="m",
        policy=Policy.STREAM,
        excluded=False,
        why="",
        span=Span(file="x", line=1, column=1),
        room=room,
        prefetch=prefetch,
    )
    headroom: Any = SimpleNamespace(room=lambda _, room: room)
    device: Any = SimpleNamespace(name=torch.device("cpu"))
    component = ManagedComponent(module, "m", device, Pins(torch.device("cpu")), headroom)
    wish = Wish(placement, fixed=False)
    component.prepare()
    assert component.host is not None
    unknown = component._split(wish)
    component.host.seconds = dict(enumerate([*LEAVES.values()] * 30))
    known = component._split(wish)
    assert unknown is not None
    assert known is not None
    assert (unknown.ahead, known.ahead) == (1, ahead)
    assert max(unknown.held, known.held) <= room
