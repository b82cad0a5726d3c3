"""The virtual device: what it lets pass, and what it writes down as a fault."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from pipelines.all import build, run
from pipelines.plans import attached, judged, plan_for

from planner.virtual.audit import snapshot
from planner.virtual.compare import Event, compare
from planner.virtual.device import SimDevice, SimFault

DATA = torch.arange(128, dtype=torch.float32)


@pytest.fixture
def device() -> SimDevice:
    return SimDevice()


def brought(device: SimDevice, *, before: bool = True, after: bool = True) -> tuple[Any, torch.Tensor]:
    """A piece with ``DATA`` in it, by the rules, or without the wait before or after the copy."""
    piece = device.alloc(512, "unet")
    if before:
        device.wait("copy", device.record("compute"))
    device.copy(piece, 0, DATA.view(torch.uint8))
    if after:
        device.wait("compute", device.record("copy"))
    return piece, device.bind(piece, 0, DATA)


def kinds(device: SimDevice) -> list[str]:
    return [fault.kind for fault in device.faults]


def test_by_the_rules_nothing_is_wrong(device: SimDevice) -> None:
    piece, bound = brought(device)
    assert torch.equal(bound.cpu(), DATA)
    assert (bound * 2).device == torch.device("sim:0")
    device.free(piece)
    assert kinds(device) == []
    assert [(e.kind, e.label, e.nbytes, e.live) for e in device.ledger.events] == [
        ("alloc", "unet", 512, 512),
        ("free", "unet", 512, 0),
    ]
    assert device.ledger.moved_by_label == {"unet": 512}


def test_fresh_memory_reads_as_nan(device: SimDevice) -> None:
    bound = device.bind(device.alloc(512, "unet"), 0, DATA)
    assert bound.cpu().isnan().all()


def test_a_copy_lands_only_when_it_is_waited_for(device: SimDevice) -> None:
    _, bound = brought(device, after=False)
    assert bound.cpu().isnan().all()
    assert kinds(device) == ["read-before-wait"]
    device.wait("compute", device.record("copy"))
    assert torch.equal(bound.cpu(), DATA)


def test_an_event_from_before_the_copy_does_not_bring_it(device: SimDevice) -> None:
    early = device.record("copy")
    _, bound = brought(device, after=False)
    device.wait("compute", early)
    assert bound.cpu().isnan().all()


def test_writing_under_a_reader_is_a_fault(device: SimDevice) -> None:
    brought(device, before=False)
    assert kinds(device) == ["write-under-reader"]


def test_writing_over_a_used_piece_wants_a_wait(device: SimDevice) -> None:
    piece, bound = brought(device)
    _ = bound + 1
    device.copy(piece, 0, DATA.view(torch.uint8))
    assert kinds(device) == ["write-under-reader"]


def test_use_after_free(device: SimDevice) -> None:
    piece, bound = brought(device)
    device.free(piece)
    assert bound.cpu().isnan().all()
    device.free(piece)
    device.copy(piece, 0, DATA.view(torch.uint8))
    assert kinds(device) == ["use-after-free"] * 3


def test_free_in_flight(device: SimDevice) -> None:
    piece, _ = brought(device, after=False)
    device.free(piece)
    assert kinds(device) == ["free-in-flight"]


def test_strict_raises_where_it_happens() -> None:
    with pytest.raises(SimFault, match="read-before-wait: unet"):
        brought(SimDevice(strict=True), after=False)[1].cpu()


def test_over_capacity_is_torchs_own_error() -> None:
    gc.collect()  # what earlier tests left must not go while this one counts
    device = SimDevice(capacity=torch.get_device_module("sim").memory_allocated() + 1024)
    piece = device.alloc(1000, "unet")
    with pytest.raises(torch.OutOfMemoryError, match="sim out of memory"):
        device.alloc(1000, "vae")
    device.free(piece)
    device.alloc(1000, "vae")


def test_what_does_not_fit_is_refused(device: SimDevice) -> None:
    piece = device.alloc(512, "unet")
    for offset in (-1, 1, 512):
        with pytest.raises(ValueError, match="do not fit"):
            device.copy(piece, offset, DATA.view(torch.uint8))
        with pytest.raises(ValueError, match="do not fit"):
            device.bind(piece, offset, DATA)
    with pytest.raises(ValueError, match="1-d uint8"):
        device.copy(piece, 0, DATA)


def test_torchs_device_module_counts_memory() -> None:
    module = torch.get_device_module("sim")
    gc.collect()  # what earlier tests left must not go while this one counts
    before = module.memory_allocated()
    module.reset_peak_memory_stats()
    made = torch.zeros(1000, device="sim:0")
    assert module.memory_allocated() - before == 4000
    assert module.memory_reserved() == module.memory_allocated()
    free, total = module.mem_get_info()
    assert total - free == module.memory_allocated()
    del made
    module.empty_cache()
    module.synchronize()
    module.manual_seed(0)
    assert module.memory_allocated() == before
    assert module.max_memory_allocated() - before == 4000
    assert module.device_count() == 1


def test_mixed_devices_raise_as_on_a_card() -> None:
    there = torch.ones(2, 2, device="sim:0")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        there @ torch.ones(2, 2)
    assert torch.equal((there * torch.tensor(2.0)).cpu(), torch.full((2, 2), 2.0))
    with pytest.raises(RuntimeError, match="there is only sim:0"):
        torch.ones(2).to("sim:1")


def test_the_first_difference_is_shown() -> None:
    planned: list[Event] = [("load", "unet", 512), ("use", "unet"), ("free", "unet", 512)]
    assert compare(planned, [("load", "unet", 256), ("load", "unet", 256), *planned[1:]]) == ()
    (found,) = compare(planned, planned[:2])
    assert str(found) == 'event 3: planned free "unet" of 512 bytes, seen nothing more [P759 ledger-departs]'


def test_a_use_that_no_hook_saw_is_a_miss() -> None:
    """A pipeline that reads a component's weights by itself, as Flux2's does with its VAE's statistics."""
    name = "StableDiffusionPipeline"
    pipe = build(name)
    truth = snapshot(pipe)
    session, device = attached(plan_for(pipe), pipe)
    decode, weight = pipe.vae.decode, pipe.text_encoder.get_input_embeddings().weight

    def reads(*args: Any, **kwargs: Any) -> Any:
        weight.sum()
        return decode(*args, **kwargs)

    pipe.vae.__dict__["decode"] = reads
    said = judged(session, device, pipe, name, truth)
    assert said.say[0].code.id == "P752"
    assert "text_encoder" in said.bad[0]
    assert "embed" in said.bad[0]


def test_bytes_left_behind_and_a_peak_that_was_not_promised_are_said() -> None:
    name = "StableDiffusionPipeline"
    pipe = build(name)
    truth = snapshot(pipe)
    session, device = attached(plan_for(pipe), pipe)

    def grows(what: str, component: str) -> None:
        if (what, component) == ("use", "unet"):
            device.alloc(1 << 20, "unet")

    session.applied.observers.append(grows)
    said = judged(session, device, pipe, name, truth)
    assert {d.code.id for d in said.say} >= {"P758", "P760"}


def test_the_same_call_again_is_judged_the_same() -> None:
    name = "FluxPipeline"
    pipe = build(name)
    session, device = attached(plan_for(pipe), pipe)
    first = judged(session, device, pipe, name, None)
    second = judged(session, device, pipe, name, None)
    assert first.seen.events == second.seen.events
    assert first.say == second.say == ()
    assert run(pipe, name)
