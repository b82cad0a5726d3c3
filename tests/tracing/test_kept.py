"""What a call leaves on the device for the next one: as much as a real call does."""

from __future__ import annotations

import gc

import pytest
from pipelines.all import CASES, arguments, build, run

from planner.cards.kernels import HOPPER
from planner.tracing.recorder import Recorder
from planner.tracing.trace import trace
from planner.virtual.backend import install
from planner.virtual.memory import METER

count = Recorder.kept
ROUNDED = 24 << 10
"""Bytes: a dozen small tensors, each rounded up to 512, and tables that a scheduler keeps on the host."""
KEEP = ["QwenImagePipeline", "WanPipeline:two"]
"""Tables of positions, in a cache of a function; a scheduler's state."""


@pytest.mark.parametrize(
    "name",
    [*KEEP, *(pytest.param(name, marks=pytest.mark.wide) for name in CASES if name not in KEEP)],
)
def test_a_call_leaves_what_its_trace_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    kept: list[int] = []

    def told(self: Recorder) -> int:
        kept.append(count(self))
        return kept[-1]

    monkeypatch.setattr(Recorder, "kept", told)
    made = trace(build(name), arguments(name), HOPPER)
    assert min(turn.held for turn in made.turns) >= kept[0]
    pipe = build(name).to("sim:0")
    gc.collect()
    weights = METER.allocated
    run(pipe, name)
    gc.collect()
    left = METER.allocated - weights
    assert left <= kept[0] <= left + ROUNDED


def test_tables_of_positions_are_no_trifle() -> None:
    made = trace(build("QwenImagePipeline"), arguments("QwenImagePipeline"), HOPPER)
    assert min(turn.held for turn in made.turns) > 1 << 19
