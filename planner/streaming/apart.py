"""Tensors that only their own class can move (complex conjugates, some quantized ones): by ``Tensor.to``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from planner.host.regions import Slot


class Apart:
    """They are on the device while their component is, all of them, in memory of torch's own allocator.

    Invariant: a slot that is not bound holds the host's tensor, the same object as ever."""

    def __init__(self, slots: Sequence[Slot], device: torch.device) -> None:
        """Binds nothing."""
        self._slots = slots
        self._device = device
        self._made: dict[int, tuple[torch.Tensor, int]] = {}
        """By ``id`` of the host's tensor: the device's, and how often it had been written."""

    def bind(self) -> None:
        """The device's tensors."""
        for slot in self._slots:
            if slot.table.get(slot.key) is slot.host:
                if id(slot.host) not in self._made:
                    own = _moved(slot.host, self._device)
                    self._made[id(slot.host)] = (own, own._version)
                slot.table[slot.key] = self._made[id(slot.host)][0]

    def intact(self) -> bool:
        """Whether they are where they were put."""
        return all(
            slot.table.get(slot.key) is self._made[id(slot.host)][0]
            for slot in self._slots
            if id(slot.host) in self._made
        )

    def release(self) -> None:
        """The host's tensors, with the values that were written on the device."""
        for slot in self._slots:
            own, version = self._made.get(id(slot.host), (None, 0))
            if own is None:
                continue
            if own._version != version:
                slot.host.copy_(own.to("cpu"))
                self._made[id(slot.host)] = (own, own._version)
            if slot.table.get(slot.key) is own:
                slot.table[slot.key] = slot.host
        self._made.clear()


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """As ``Module.to`` leaves it: of its own class, which ``detach`` of a Parameter's subclass forgets, and
    with the attributes that it has."""
    kind = type(tensor)
    if kind.to is not torch.Tensor.to:
        return tensor.to(device)
    own = tensor.detach().to(device)
    if not isinstance(tensor, torch.nn.Parameter):
        return own
    if kind is torch.nn.Parameter or type(own) is not torch.Tensor:
        return torch.nn.Parameter(own, requires_grad=tensor.requires_grad)
    made = torch.Tensor._make_subclass(kind, own, tensor.requires_grad)
    vars(made).update(vars(tensor))
    return made
