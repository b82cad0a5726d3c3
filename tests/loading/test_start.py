"""What loading reads, and what applying packs, registers and places, are what is predicted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from registering import Runtime

import planner
from planner.api import attach
from planner.cards.shipped import shipped_card
from planner.device.pinned import Pins
from planner.host.packing import pack
from planner.loading.pipeline import load_pipeline
from planner.loading.stopwatch import Stopwatch
from planner.plan.model import Plan
from planner.predict.start import start
from planner.virtual.device import SimDevice

PAGE = 4096
BUFFERS = 2 << 10
"""Bytes that are not saved: tables of positions."""


@pytest.fixture
def arenas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each arena that a session packs, on a device that registers as CUDA does."""
    found: list[int] = []
    initial, packing = Pins.__init__, pack

    def registers(self: Pins, device: torch.device, limit: int | None = None) -> None:
        initial(self, device, limit)
        self._runtime = Runtime()

    def packs(*given: Any) -> Any:
        made = packing(*given)
        found.append(0 if made is None else made.numel())
        return made

    monkeypatch.setattr(Pins, "__init__", registers)
    monkeypatch.setattr("planner.host.layout.pack", packs)
    return found


@pytest.mark.parametrize("name", ["tiny-flux", "tiny-sdxl"])
@pytest.mark.parametrize(
    ("small", "pinned"), [(1 << 20, None), (10_000, None), (10_000, "2MiB"), (1 << 20, "2MiB")]
)
def test_bytes_are_those_of_a_run(
    name: str,
    small: int,
    pinned: str | None,
    arenas: list[int],
    make_plan: Callable[[str], Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    piece = 64 << 10
    for module in ("device.pinned", "schedule.pins"):
        monkeypatch.setattr(f"planner.{module}.PIECE", piece)
    monkeypatch.setattr("planner.target.extents.PACKED", small)
    cls = {"tiny-flux": "FluxPipeline", "tiny-sdxl": "StableDiffusionXLPipeline"}[name]
    resident = "components: {vae: resident}"
    budget = f"budget: {{pinned: {pinned}}}" if pinned else ""
    plan = make_plan(f"pipeline: {{class: {cls}, source: 'builtin:{name}'}}\n{resident}\n{budget}")
    data = shipped_card("h200")
    compiled = planner.compile(plan, card="h200")
    foretold = start(plan, compiled.target, compiled.schedule, data)
    read: list[int] = []

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int], object]]:
        yield read.append

    pipe = load_pipeline(plan, bar=bar)
    assert foretold.read - BUFFERS <= sum(read) <= foretold.read
    session, again = attach(plan, pipe, SimDevice(), data=data)
    try:
        assert sum(arenas) == foretold.packed
        pins = session.applied.state.residency.pins
        # Whole pages are registered, in pieces: a component's last, and what does not fit, may be left out.
        room = len(arenas) * (PAGE + piece * (pinned is not None))
        room += PAGE * sum(t.numel() * 4 >= small for m in _modules(pipe) for t in m.parameters())
        assert abs(pins.nbytes - foretold.registered) <= room
        assert sum(c.nbytes or 0 for c in session.applied.components.values()) == foretold.placed
        assert again.start is not None
        assert (again.start.packed, again.start.placed) == (foretold.packed, foretold.placed)
        assert again.start.apply.seconds == pytest.approx(foretold.apply.seconds, rel=0.02)
    finally:
        session.remove()


def _modules(pipe: Any) -> list[torch.nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


def test_a_watch_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    SimDevice()
    device = torch.device("sim", 0)
    monkeypatch.setattr(torch.get_device_module(device), "synchronize", waited.append, raising=False)
    with Stopwatch() as watch:
        assert watch.seconds == 0
    assert watch.seconds > 0
    assert not waited
    with Stopwatch(device):
        pass
    assert waited == [device]
    with pytest.raises(KeyError), Stopwatch(device) as watch:
        raise KeyError
    assert watch.seconds > 0
    assert waited == [device], "what failed is not waited for"
