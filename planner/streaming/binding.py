"""The device's tensors in the place of the host's, given back by identity.

A tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that owns
it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for wrapper
tensors and for backends other than CUDA. The host's tensor is not written, unless the device's was written in
place: then it gets the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from operator import is_

import torch

from planner.host.layout import ORIGIN, HostWeights
from planner.host.regions import Slot
from planner.streaming.gradients import on_device
from planner.streaming.tensors import DeviceTensors, Place


class Binding:
    """The entries of one component, bound block by block.

    Invariant: of a block that is not in ``_bound`` no tensor of the device's is in a module's table (of one
    that is there may be some: unbinding looks at each entry, and can be done again after an interruption).
    """

    def __init__(self, host: HostWeights, tensors: DeviceTensors, where: Callable[[int], Place]) -> None:
        """``where``: the place of a block. Binds nothing."""
        self.gradients = False
        """Whether what is bound from now on passes gradients on to the host's tensors."""
        self._host = host
        self._tensors = tensors
        self._where = where
        self._bound: dict[int, bool] = {}
        """With whether it was bound to pass gradients on."""

    def __contains__(self, index: int) -> bool:
        """Whether the block is bound, as ``gradients`` says."""
        return self._bound.get(index) is self.gradients

    def bind(self, index: int) -> None:
        """The device's tensors, for one block. An entry that holds neither tensor of ours is left alone:
        somebody put another there (``torch.func.functional_call``)."""
        if index in self:
            return
        self._bound[index] = self.gradients
        entries, made = self._host.entries[index], self._tensors.at(index, self._where(index)).tensors
        now = entries.now()
        bound = map(on_device, entries.hosts, made) if self.gradients else made
        if all(map(is_, now, entries.hosts)):
            entries.put(bound)
        else:
            for slot, found, tensor in zip(entries.slots, now, bound, strict=True):
                if found is not None and _stands_for(found, slot.host):
                    slot.table[slot.key] = tensor
        self._flatten()

    def bind_again(self) -> None:
        """Every block that is bound: another component that shares a module may have bound or unbound it
        since."""
        for index in [*self._bound]:
            del self._bound[index]
            self.bind(index)

    def unbind(self, index: int, *, thoroughly: bool = False) -> None:
        """The host's tensors, for a block whose memory is about to be another's. What was written on the
        device comes home first; ``thoroughly``: also where a tensor was given other memory."""
        if index not in self._bound:
            return
        entries, known = self._host.entries[index], self._tensors.known(index)
        if known is not None:
            known.come_home()
        moved = known.repointed() if thoroughly and known is not None else set[int]()
        if not moved and known is not None and known.intact() and entries.hold(known.tensors):
            entries.put(entries.hosts)
        else:
            for slot, now in zip(entries.slots, entries.now(), strict=True):
                self._give_back(slot, now, moved)
        del self._bound[index]
        self._flatten()

    def unbind_all(self) -> None:
        """The host's tensors again, for all blocks."""
        for index in [*self._bound]:
            self.unbind(index, thoroughly=True)

    def intact(self) -> bool:
        """Whether every bound entry holds a tensor on the device, and none of ours that was moved, cast or
        given other memory: submodules may have been, past our hooks."""
        for index in self._bound:
            entries, known = self._host.entries[index], self._tensors.known(index)
            if known is None:
                continue
            if known.repointed():
                return False
            if known.intact() and entries.hold(known.tensors):
                continue
            for slot, now, own in zip(entries.slots, entries.now(), known.tensors, strict=True):
                if now is None or (self._is_elsewhere(now, slot) if now is own else self._is_lost(now, slot)):
                    return False
        return True

    def _give_back(self, slot: Slot, now: torch.Tensor | None, moved: Set[int]) -> None:
        """The host's tensor in one entry, whatever holds it ``now``; ``moved``: as
        ``BlockTensors.repointed``."""
        if now is None or now is slot.host:
            return
        if not _stands_for(now, slot.host):
            if now.device.type != "cpu":  # replaced by another tensor on the device: that one is the truth
                slot.table[slot.key] = brought_home(now)
            return
        if self._is_elsewhere(now, slot) or id(now) in moved:
            # A submodule was moved or cast past our hooks, or a tensor given other memory: that is the truth.
            with torch.inference_mode(False), torch.no_grad():
                slot.host.data = now.detach().to("cpu")
        slot.table[slot.key] = slot.host

    def _is_elsewhere(self, own: torch.Tensor, slot: Slot) -> bool:
        return own.device.type != self._tensors.kind or own.dtype != slot.host.dtype

    def _is_lost(self, now: torch.Tensor, slot: Slot) -> bool:
        """Another tensor on the device is what its user wants there, until it is brought home."""
        return now.device.type != self._tensors.kind or _stands_for(now, slot.host)

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._host.rnns:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


def brought_home(tensor: torch.Tensor) -> torch.Tensor:
    """The same on the host, a Parameter where it is one."""
    with torch.inference_mode(False), torch.no_grad():
        home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _stands_for(tensor: torch.Tensor, host: torch.Tensor) -> bool:
    """Whether it is the host's tensor, or one that stood for it on the device."""
    found = ORIGIN.get(tensor)  # type: ignore[no-untyped-call]
    if found is None and tensor.grad_fn is not None:
        found = getattr(tensor.grad_fn, "host", None)
    return tensor is host or found is host
