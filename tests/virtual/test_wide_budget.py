"""Every class that can be built, under a budget that binds weights and activations together, on a device that
holds the allocator to it and gives pieces back at their addresses: as on CUDA."""

from __future__ import annotations

import gc

import pytest
from pipelines import wide
from pipelines.all import CASES, build, run, same
from pipelines.plans import attached, plan_for, schedule_for

from planner.virtual.audit import audit
from planner.virtual.device import SimDevice
from planner.virtual.memory import METER


@pytest.mark.wide
@pytest.mark.parametrize("idle", ["release", "keep"])
@pytest.mark.parametrize("name", [*CASES, *wide.WIDE])
def test_no_call_passes_the_budget(name: str, idle: str) -> None:
    SimDevice()
    pipe = build(name).to("sim:0")
    weights = METER.high = METER.allocated
    expected = run(pipe, name)
    activations = METER.high - weights
    del pipe
    gc.collect()
    before = METER.allocated
    pipe = build(name)
    plan = plan_for(pipe, f"idle: {idle}")
    largest = max(size or 0 for size in schedule_for(plan, pipe).course.sizes.values())
    budget = int(max(0.6 * weights, 1.2 * largest)) + activations + activations // 4
    session, device = attached(plan, pipe, budget, SimDevice(capped=True, lasting=True))
    METER.limit = before + budget
    METER.high = METER.allocated
    try:
        for _ in range(3):
            with audit(pipe, device) as seen:
                assert same(run(pipe, name), expected)
            assert METER.high - before <= budget
            assert seen.misses == ()
        assert device.faults == ()
    finally:
        session.remove()
    assert METER.limit is None
    assert device.ledger.live == 0
