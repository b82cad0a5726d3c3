"""The device's tensors in the place of the host's, given back by identity.

A tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that owns
it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for wrapper
tensors and for backends other than CUDA. The host's tensor is not written, unless somebody changed the
device's: then the change is brought home.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from planner.session.weights import Slot


class Binding:
    """The slots of one component, bound batch by batch.

    ``over(batch, host)``: the device's tensor, and whether what is written to it is to be brought home.
    """

    def __init__(
        self,
        slots: Sequence[Sequence[Slot]],
        module: torch.nn.Module,
        over: Callable[[int, torch.Tensor], tuple[torch.Tensor, bool]],
    ) -> None:
        """``slots``: those of each batch. Binds nothing yet."""
        self._slots = slots
        self._over = over
        self._made: dict[int, tuple[torch.Tensor, int | None]] = {}
        self._bound: set[int] = set()
        self._rnns = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]

    def bind(self, batch: int) -> None:
        """The device's tensors, for one batch."""
        if batch in self._bound:
            return
        self._bound.add(batch)
        for slot in self._slots[batch]:
            host = slot.host
            if id(host) not in self._made:
                tensor, kept = self._over(batch, host)
                if isinstance(host, torch.nn.Parameter):
                    tensor = torch.nn.Parameter(tensor, requires_grad=host.requires_grad)
                self._made[id(host)] = (tensor, _version(tensor) if kept else None)
            slot.table[slot.key] = self._made[id(host)][0]
        self._flatten()

    def unbind(self, batch: int) -> None:
        """The host's tensors, for a batch whose memory is about to be another's."""
        if batch in self._bound:
            self._undo(batch, set())
            self._flatten()

    def undo(self) -> int:
        """The host's tensors again, for all. Returns how many had been changed on the device."""
        home: set[int] = set()
        changed = sum(self._undo(batch, home) for batch in tuple(self._bound))
        self._made = {}
        self._flatten()
        return changed

    def _undo(self, batch: int, home: set[int]) -> int:
        self._bound.remove(batch)
        changed = 0
        for slot in self._slots[batch]:
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
        return changed

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._rnns:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


def _brought_home(tensor: torch.Tensor) -> torch.Tensor:
    home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
