"""Every class that can be built, in budgets that let all or a part of the next component come early, on a
device whose pieces come back at their addresses, as on CUDA."""

from __future__ import annotations

import pytest
from pipelines import wide
from pipelines.all import CASES, build, run, same
from pipelines.plans import attached, judged, plan_for, schedule_for

from planner.virtual.audit import snapshot
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

from .test_wide_streamed import KNOWN


@pytest.mark.wide
@pytest.mark.parametrize("share", [2.0, 0.8])
@pytest.mark.parametrize("name", [*CASES, *wide.WIDE])
def test_what_comes_early_is_what_was_planned(name: str, share: float) -> None:
    install()
    expected = run(build(name).to("sim:0"), name)
    pipe = build(name)
    plan = plan_for(pipe)
    sizes = [size or 0 for size in schedule_for(plan, pipe).course.sizes.values()]
    truth = snapshot(pipe)
    budget = max(int(sum(sizes) * share), int(max(sizes) / 0.84))
    session, device = attached(plan, pipe, budget, SimDevice(lasting=True))
    for _ in range(2):
        said = judged(session, device, pipe, name, truth)
        assert same(said.outputs, expected)
        assert [str(d) for d in said.say if d.code.id not in KNOWN.get(name, ())] == []
    session.remove()
    assert device.ledger.live == 0
