"""The protocol on a torch device, as far as a CPU shows it."""

from __future__ import annotations

import torch

from planner.device.torch_device import TorchDevice


def test_what_is_copied_in_is_not_a_change_of_what_is_bound() -> None:
    device = TorchDevice(torch.device("cpu"))
    piece = device.alloc(1024, "x")
    first, second = torch.arange(8.0), torch.ones(4, 4).t()
    bound = [device.bind(piece, 0, first), device.bind(piece, 512, second)]
    before = [tensor._version for tensor in bound]
    device.copy(piece, 0, first.view(torch.uint8))
    device.copy(piece, 512, torch.ones(16).view(torch.uint8))
    assert [tensor._version for tensor in bound] == before
    assert torch.equal(bound[0], first)
    assert torch.equal(bound[1], second)
    assert bound[1].stride() == second.stride()
    bound[0].add_(1)
    assert [tensor._version > was for tensor, was in zip(bound, before, strict=True)] == [True, False]
    assert device.own == 1024
    device.free(piece)
    assert device.own == 0
