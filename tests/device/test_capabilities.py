"""Backends that lack what CUDA has, on a CPU that stands for them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from covering import covering
from pipelines.all import build, run, same
from pipelines.plans import plan_for, schedule_for

from planner.api import attach
from planner.device.torch_device import TorchDevice
from planner.report.model import Report
from planner.schedule.card import MAPPED
from planner.session import machine
from planner.session.attach import attach_schedule
from planner.session.machine import Room, describe_device, room
from planner.virtual.device import SimDevice

CLS = "StableDiffusionPipeline"
CPU = torch.device("cpu")
GIB = 1 << 30


def some_memory() -> dict[str, Any]:
    return {"mem_get_info": lambda _: (6 * GIB, 8 * GIB), "memory_reserved": lambda _: GIB}


BACKENDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "memory without a cap": some_memory(),
    "a cap without memory": {"set_per_process_memory_fraction": lambda *_: None},
    "a cap that knows its card": {**some_memory(), "set_per_process_memory_fraction": lambda *_: None},
    "a cache": {"empty_cache": lambda: None},
    "a random state": {"get_rng_state": lambda _: torch.get_rng_state(), "set_rng_state": lambda *_: None},
    "a name": {"get_device_name": lambda _: "a card"},
    "streams without a way to the current one": {"Stream": object},
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = BACKENDS[request.param]
    monkeypatch.setattr(torch, "get_device_module", lambda _=None: SimpleNamespace(**module))
    return module


@pytest.mark.parametrize(
    ("backend", "policy"), covering([*BACKENDS], ["offload", "stream"]), indirect=["backend"]
)
def test_pictures_are_the_same_without_it(backend: dict[str, Any], policy: str) -> None:
    pipe = build(CLS)
    expected = run(pipe, CLS)
    plan = plan_for(pipe, f"components: {{unet: {policy}, vae: {policy}}}")
    device = TorchDevice(CPU)
    with attach_schedule(plan, schedule_for(plan, pipe), pipe, device) as session:
        for _ in range(2):
            assert same(run(pipe, CLS), expected)
        assert device.own == 0
        assert isinstance(session.report(), Report)
    assert same(run(pipe, CLS), expected)


def test_what_is_not_known_is_not_made_up(backend: dict[str, Any]) -> None:
    plan = plan_for(build(CLS), "budget: {vram: 4GiB}")
    there, notes = room(plan, CPU)
    assert notes == ()
    assert there.budget == 4 * GIB
    known = "mem_get_info" in backend
    assert there.total == describe_device(CPU).total == (8 * GIB if known else None)
    assert describe_device(CPU).kind == ("a card" if "get_device_name" in backend else None)


def test_a_budget_binds_where_the_backend_can_hold_it(backend: dict[str, Any]) -> None:
    device = TorchDevice(CPU)
    can = {"set_per_process_memory_fraction", "mem_get_info"} <= backend.keys()
    assert device.cap(2 * GIB) is can
    if can:
        with pytest.raises(torch.OutOfMemoryError, match="pass the budget"):
            device.alloc(3 * GIB, "x")
    else:
        device.free(device.alloc(1024, "x"))
    assert device.own == 0


def test_registered_weights_take_a_part_of_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build(CLS)
    weights = sum(
        t.nbytes
        for part in pipe.components.values()
        if isinstance(part, torch.nn.Module)
        for t in (*part.parameters(), *part.buffers())
    )
    there = Room(budget=GIB, overhead=1000, total=8 * GIB)
    assert replace(there, overhead=0).beside(weights).overhead == 0
    monkeypatch.setattr(machine, "room", lambda *_: (there, ()))
    session, _ = attach(plan_for(pipe), pipe, SimDevice())
    assert session.schedule.course.budget == GIB - 1000 - weights // MAPPED
    session.remove()
