"""A component's weights on the device: copied group by group, bound, given back by identity.

A tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that owns
it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for wrapper
tensors and for backends other than CUDA. The host's tensor is not written, unless somebody changed the
device's: then the change is brought home.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from planner.device.protocol import Device
from planner.session.again import compiled
from planner.session.host import Batch, Master


class Binding:
    """The device's tensors in the place of the host's, in every table that has one."""

    def __init__(self, master: Master, module: torch.nn.Module) -> None:
        """Binds nothing yet."""
        self._slots = master.slots
        self._made: dict[int, tuple[torch.Tensor, int | None]] = {}
        self._rnns = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]

    def bind(self, over: Callable[[torch.Tensor], tuple[torch.Tensor, bool]]) -> None:
        """``over(host)``: the device's tensor, and whether what is written to it is to be brought home."""
        for slot in self._slots:
            host = slot.host
            if id(host) not in self._made:
                tensor, kept = over(host)
                if isinstance(host, torch.nn.Parameter):
                    tensor = torch.nn.Parameter(tensor, requires_grad=host.requires_grad)
                self._made[id(host)] = (tensor, _version(tensor) if kept else None)
            slot.table[slot.key] = self._made[id(host)][0]
        self._flatten()

    def undo(self) -> int:
        """The host's tensors again. Returns how many had been changed on the device."""
        changed = 0
        home: set[int] = set()
        for slot in self._slots:
            ours, version = self._made.get(id(slot.host), (None, 0))
            now = slot.table.get(slot.key)
            if ours is None or now is None or now is slot.host:
                continue
            if now is ours:
                if version is not None and _version(ours) != version and id(ours) not in home:
                    # Written in place while it was here (a buffer that counts, an in-place fuse).
                    home.add(id(ours))
                    slot.host.copy_(ours.to("cpu"))
                    changed += 1
                slot.table[slot.key] = slot.host
            elif now.device.type != "cpu":
                # Replaced by another tensor on the device: that one is the truth now.
                changed += 1
                slot.table[slot.key] = _brought_home(now)
        self._made = {}
        self._flatten()
        return changed

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._rnns:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


class Bound:
    """One component on the device, whole, from its first copy until ``release``."""

    def __init__(self, master: Master, module: torch.nn.Module, device: Device, label: str) -> None:
        """Queues the copies and binds. On any failure the module is as it was and nothing is held."""
        self.nbytes = master.nbytes
        self._device = device
        self._binding = Binding(master, module)
        self._coming: dict[int, tuple[Batch, Any]] = {}
        self._hooks: dict[int, list[Any]] = {}
        self._piece = device.alloc(master.nbytes, label)
        # Weights made under inference_mode could not be used outside of it, nor the other way round.
        with torch.inference_mode(False), torch.no_grad():
            try:
                # The memory may still be read by kernels queued before it was given back.
                device.wait("copy", device.record("compute"))
                for number, batch in enumerate(master.batches):
                    for place, source in batch.copies:
                        device.copy(self._piece, place, source)
                    self._coming[number] = (batch, device.record("copy"))
                at = master.places
                self._binding.bind(lambda host: (device.bind(self._piece, at.get(id(host), 0), host), True))
            except BaseException:
                self._binding.undo()
                self.settle()
                device.free(self._piece)
                raise

    def listen(self) -> None:
        """A forward begins: what lies outside of the groups is waited for now, each group when one of its
        modules runs. Compiled modules wait for everything: their hooks would be compiled with them."""
        roots = {number: batch.group for number, (batch, _) in self._coming.items()}
        if any(compiled(module) for group in roots.values() for module in group.owners):
            self.settle()
            return
        for number, group in roots.items():
            if group.root is None:
                self._arrived(number)
            elif number not in self._hooks:
                self._hooks[number] = [
                    module.register_forward_pre_hook(_Arrival(self, number), prepend=True)
                    for module in group.owners
                ]

    def settle(self) -> None:
        """Waits, on the compute lane, for everything that is still on its way."""
        for number in list(self._coming):
            self._arrived(number)

    def release(self) -> int:
        """Binds the host's tensors again and frees the device's. Returns how many had been changed
        on the device meanwhile; those changes are brought home first."""
        self.settle()
        with torch.inference_mode(False), torch.no_grad():
            changed = self._binding.undo()
            self._device.free(self._piece)
            self._piece = None
        return changed

    def _arrived(self, number: int) -> None:
        found = self._coming.pop(number, None)
        if found is not None:
            self._device.wait("compute", found[1])
        for hook in self._hooks.pop(number, ()):
            hook.remove()


class _Arrival:
    """A forward pre-hook that waits for one group, and is gone afterwards."""

    def __init__(self, bound: Bound, number: int) -> None:
        self._bound = bound
        self._number = number

    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._bound._arrived(self._number)


def _brought_home(tensor: torch.Tensor) -> torch.Tensor:
    home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
