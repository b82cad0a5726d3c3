"""The plans that ship: each is valid, and compiles to the schedule that is checked in."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden

import planner

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))
GOLDEN = Path(__file__).parent / "schedules"


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.name)
def test_a_plan_that_ships(path: Path, golden: Golden) -> None:
    result = planner.validate(path)
    assert result.errors == ()
    assert result.warnings == ()
    compiled = planner.compile(path)
    golden(GOLDEN / path.name.replace(".plan.yaml", ".schedule.json"), compiled.to_json())
