"""Memory to which a tensor still refers that no session made is neither given back nor written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from planner.virtual.audit import Verdict
from planner.virtual.compare import findings
from planner.virtual.device import Fault, SimDevice
from planner.virtual.piece import SimPiece
from planner.virtual.tensor import SimTensor

DATA = torch.arange(32, dtype=torch.float32).reshape(8, 4)
HALF = 64
"""Bytes of four rows."""


def brought() -> tuple[SimDevice, SimPiece, torch.nn.Parameter]:
    """``DATA`` in the second kilobyte of a piece, as a session binds it."""
    device = SimDevice(aliases=True)
    piece = device.alloc(2048, "unet")
    device.wait("copy", device.record("compute"))
    device.copy(piece, 1024, DATA.reshape(-1).view(torch.uint8))
    device.wait("compute", device.record("copy"))
    return device, piece, torch.nn.Parameter(device.bind(piece, 1024, DATA))


def again(device: SimDevice, piece: SimPiece, start: int, nbytes: int) -> None:
    device.wait("copy", device.record("compute"))
    device.copy(piece, start, torch.zeros(nbytes, dtype=torch.uint8))
    device.wait("compute", device.record("copy"))


def module(weight: torch.Tensor) -> torch.nn.Module:
    made = torch.nn.Module()
    made.register_buffer("kept", weight.detach()[:2])
    return made


WAYS: dict[str, Callable[[torch.Tensor], Any]] = {
    "a view": lambda w: w.view(32),
    "a slice": lambda w: w[:2],
    "an expanded row": lambda w: w[0].expand(5, 4),
    "a transposed one": lambda w: w.t(),
    "detached": lambda w: w.detach(),
    "its data": lambda w: w.data,
    "a view of its data": lambda w: w.data.reshape(-1)[2:5],
    "chunks": lambda w: w.chunk(2),
    "one as another dtype": lambda w: w.detach().view(torch.int32),
    "as_strided": lambda w: w.detach().as_strided((2, 2), (4, 1)),
    "a parameter over a slice": lambda w: torch.nn.Parameter(w[:2]),
    "an alias made in no_grad": torch.no_grad()(lambda w: w[:3]),
    "an alias made in inference mode": torch.inference_mode()(lambda w: w[:3]),
    "contiguous, which it is": lambda w: w.detach().contiguous(),
    "to where it is": lambda w: w.detach().to("sim:0"),
    "data of another": lambda w: assigned(w),
    "set_ over it": lambda w: torch.empty(0, device="sim:0").set_(w.detach()),  # type: ignore[call-overload]
    "a buffer of a module": module,
    "an output with a graph": lambda w: w[0] * 1,
    "saved by autograd": lambda w: F.linear(torch.ones(1, 4, device="sim:0", requires_grad=True), w.detach()),
    "saved by autograd itself": lambda w: F.linear(torch.ones(1, 4, device="sim:0", requires_grad=True), w),
    "saved by a norm": lambda w: F.layer_norm(
        torch.ones(2, 8, 4, device="sim:0", requires_grad=True), (8, 4), w
    ),
}


def assigned(weight: torch.Tensor) -> torch.Tensor:
    other = torch.ones(8, 4, device="sim:0")
    other.data = weight.data
    return other


GONE: dict[str, Callable[[torch.Tensor], Any]] = {
    "a copy": lambda w: w.detach().clone(),
    "one on the host": lambda w: w.detach().cpu(),
    "another dtype": lambda w: w.detach().to(torch.float64),
    "a result": lambda w: w.detach() + 1,
    "a view of a result": lambda w: (w.detach() + 1)[:2],
    "a result of a view": lambda w: w.detach()[:2].sum(),
    "what a finished backward saved": lambda w: (w * w).sum().backward(),
    "nothing": lambda w: None,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_alias_is_seen_when_its_memory_leaves(way: str) -> None:
    device, piece, weight = brought()
    kept = WAYS[way](weight)
    assert device.foreign(piece, 1024, 1024 + 128, [weight])
    device.free(piece)
    assert [fault.kind for fault in device.faults] == ["free-while-aliased"]
    del kept


@pytest.mark.parametrize("way", WAYS)
def test_an_alias_is_seen_when_its_memory_is_written(way: str) -> None:
    device, piece, weight = brought()
    kept = WAYS[way](weight)
    again(device, piece, 1024, 128)
    faults: list[Fault] = [*device.faults]
    assert [fault.kind for fault in faults] == ["overwrite-while-aliased"]
    del kept


@pytest.mark.parametrize("way", [*WAYS, *GONE])
def test_what_is_gone_and_what_has_memory_of_its_own_is_no_alias(way: str) -> None:
    device, piece, weight = brought()
    kept = GONE[way](weight) if way in GONE else (WAYS[way](weight), None)[1]
    assert not device.foreign(piece, 0, 2048, [weight])
    again(device, piece, 1024, 128)
    device.free(piece)
    assert device.faults == ()
    del kept


def test_the_bytes_count_and_not_the_piece() -> None:
    """A view holds the tensor that it is of, and so all bytes of one weight, and none of its neighbours."""
    device, piece, weight = brought()
    before, behind = device.bind(piece, 512, DATA), device.bind(piece, 1152, DATA)
    kept, ours = weight[4:], [before, weight, behind]
    for start, stop, foreign in (
        (0, 1024, False),
        (1024, 1028, True),
        (1151, 1152, True),
        (1152, 2048, False),
    ):
        assert device.foreign(piece, start, stop, ours) is foreign, (start, stop)
    again(device, piece, 512, 512)
    again(device, piece, 1152, 128)
    assert device.faults == ()
    again(device, piece, 1024, HALF)
    faults: list[Fault] = [*device.faults]
    assert [fault.kind for fault in faults] == ["overwrite-while-aliased"]
    del kept


def test_a_tensor_over_a_part_has_its_own_bytes_alone() -> None:
    device, piece, weight = brought()
    kept = device.bind(piece, 1024 + HALF, DATA[4:])  # and it is not among ours
    assert not device.foreign(piece, 1024, 1024 + HALF, [weight])
    assert device.foreign(piece, 1024 + HALF, 1025 + HALF, [weight])
    del kept


def test_ours_are_told_by_identity() -> None:
    device, piece, weight = brought()
    assert device.foreign(piece, 0, 2048, [])
    twin = weight.detach()
    assert device.foreign(piece, 0, 2048, [weight])
    assert not device.foreign(piece, 0, 2048, [weight, twin])
    del weight, twin
    assert not device.foreign(piece, 0, 2048, [])


def test_a_parameter_that_a_graph_holds_is_ours_again_when_the_graph_is_gone() -> None:
    device, piece, weight = brought()
    out = (weight * weight).sum()
    assert device.foreign(piece, 0, 2048, [weight])
    out.backward()
    del out
    weight.grad = None
    assert not device.foreign(piece, 0, 2048, [weight])


def test_a_tensor_that_took_other_bytes_is_no_alias() -> None:
    device, piece, weight = brought()
    kept = weight.detach()
    kept.data = torch.zeros(8, 4, device="sim:0")
    assert not device.foreign(piece, 0, 2048, [weight])


def test_a_piece_that_comes_back_is_not_aliased_by_what_was_bound_before() -> None:
    device = SimDevice(lasting=True, aliases=True)
    piece = device.alloc(128, "unet")
    weight = torch.nn.Parameter(device.bind(piece, 0, DATA))
    device.free(piece)
    assert device.alloc(128, "unet") is piece
    again(device, piece, 0, 128)
    assert device.faults == ()
    assert isinstance(weight, SimTensor)


def test_it_is_said_with_a_code() -> None:
    device, piece, weight = brought()
    kept = weight[:2]
    again(device, piece, 1024, 128)
    device.free(piece)
    verdict = Verdict(misses=(), faults=device.faults, wrong=(), left={})
    assert [found.code.id for found in findings(verdict)] == ["P763", "P762"]
    assert "a tensor of (8, 4) still refers to it" in str(findings(verdict)[0])
    del kept
