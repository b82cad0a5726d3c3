"""Any operation of the protocol can be made to fail, once, before or after it took effect."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from planner.device.protocol import Device
from planner.virtual.device import SimDevice
from planner.virtual.memory import METER
from planner.virtual.operations import Fail, InjectedFailure, Operations, operated

DATA = torch.arange(16, dtype=torch.float32)
OPERATIONS = sorted(
    name for name, member in vars(Device).items() if inspect.isfunction(member) and not name.startswith("_")
)


def everything(device: SimDevice) -> None:
    """Each operation of the protocol at least once, by the rules."""
    piece = device.alloc(64, "unet")
    device.wait("copy", device.record("compute"))
    device.copy(piece, 0, DATA.view(torch.uint8))
    device.wait("compute", device.record("copy"))
    bound = device.bind(piece, 0, DATA)
    device.storage_of(bound)
    device.references(piece, (0, 64, 0))
    del bound
    device.free(piece)
    device.abandon(device.alloc(64, "vae"))
    for name in OPERATIONS:
        method: Any = getattr(device, name)
        if name not in device.operations.counts:
            method(*[None] * len(inspect.signature(method).parameters))


def test_every_operation_is_counted() -> None:
    device = SimDevice()
    everything(device)
    assert sorted(device.operations.counts) == OPERATIONS
    assert device.operations.counts["record"] == 2
    assert device.operations.total == sum(device.operations.counts.values()) == len(OPERATIONS) + 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_counts_enumerate_what_can_fail_and_each_fails_once(when: Any) -> None:
    whole = SimDevice()
    everything(whole)
    for op, count in {**whole.operations.counts, "*": whole.operations.total}.items():
        for nth in range(1, count + 1):
            device = SimDevice(fail=Fail(op=op, nth=nth, error=KeyboardInterrupt, when=when))
            with pytest.raises(KeyboardInterrupt) as caught:
                everything(device)
            assert caught.value.__notes__ == [f"injected {when} {op} {nth}"]
            everything(device)  # not again
            del caught


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError, MemoryError),
        (torch.OutOfMemoryError("no room"), torch.OutOfMemoryError),
        (lambda: RuntimeError("made"), RuntimeError),
        (InjectedFailure, InjectedFailure),
    ],
)
def test_it_fails_with_what_was_asked_for(error: Any, kind: type[BaseException]) -> None:
    device = SimDevice(fail=Fail(op="record", error=error))
    with pytest.raises(kind):
        device.record("copy")
    device.record("copy")


def test_before_nothing_has_happened() -> None:
    device = SimDevice(fail=[Fail(op=op) for op in ("alloc", "copy", "free")])
    with pytest.raises(InjectedFailure):
        device.alloc(64, "unet")
    assert device.ledger.live == 0
    piece = device.alloc(64, "unet")
    with pytest.raises(InjectedFailure):
        device.copy(piece, 0, DATA.view(torch.uint8))
    assert piece.pending == []
    with pytest.raises(InjectedFailure):
        device.free(piece)
    assert not piece.freed
    device.free(piece)
    assert device.faults == ()


def test_after_it_has_and_a_piece_that_nobody_got_is_gone() -> None:
    device = SimDevice(fail=[Fail(op=op, when="after") for op in ("alloc", "copy", "free")])
    before = METER.allocated
    with pytest.raises(InjectedFailure):
        device.alloc(64, "unet")
    assert [entry.kind for entry in device.ledger.events] == ["alloc", "free"]
    assert METER.allocated == before
    piece = device.alloc(64, "unet")
    device.wait("copy", device.record("compute"))
    with pytest.raises(InjectedFailure):
        device.copy(piece, 0, DATA.view(torch.uint8))
    device.wait("compute", device.record("copy"))
    assert torch.equal(device.bind(piece, 0, DATA).cpu(), DATA)
    with pytest.raises(InjectedFailure):
        device.free(piece)
    assert piece.freed
    assert device.ledger.live == 0
    assert device.faults == ()


def test_what_the_operation_raises_itself_comes_first() -> None:
    device = SimDevice(fail=Fail(op="alloc", when="after"))
    with pytest.raises(ValueError, match="cannot have"):
        device.alloc(-1, "unet")


def test_an_operation_that_the_protocol_gets_later_can_fail_too() -> None:
    class Later:
        def fetch(self, count: int) -> int:
            return count

        def _inner(self) -> None: ...

    @operated(Later)
    class Made:
        def __init__(self, *fails: Fail) -> None:
            self.operations = Operations(fails)

        def before_operation(self) -> None: ...

        def lost(self, result: Any) -> None: ...

        def fetch(self, count: int) -> int:
            return count + 1

        def other(self) -> None: ...

        def _inner(self) -> None: ...

    made = Made(Fail(op="fetch", nth=2))
    assert made.fetch(1) == 2
    made.other()
    made._inner()
    with pytest.raises(InjectedFailure):
        made.fetch(count=1)
    assert made.fetch(1) == 2
    assert made.operations.counts == {"fetch": 3}
