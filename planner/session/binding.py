"""The device's tensors in the place of the host's, given back by identity.

A tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that owns
it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for wrapper
tensors and for backends other than CUDA. The host's tensor is not written, unless somebody changed the
device's: then the change is brought home.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from planner.session.weights import Slot
from planner.session.wrapped import joined
from planner.target.wrapped import held


class Binding:
    """The slots of one component, bound batch by batch.

    ``over(part)``: where a plain tensor lies on the device, and whether what is written there comes home.
    """

    def __init__(
        self,
        slots: Sequence[Sequence[Slot]],
        module: torch.nn.Module,
        over: Callable[[torch.Tensor], tuple[torch.Tensor, bool]],
    ) -> None:
        """``slots``: those of each batch. Binds nothing yet."""
        self._slots = slots
        self._over = over
        self._made: dict[int, _Made] = {}
        self._bound: set[int] = set()
        self._rnns = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]

    def bind(self, batch: int) -> None:
        """The device's tensors, for one batch."""
        if batch in self._bound:
            return
        self._bound.add(batch)
        for slot in self._slots[batch]:
            if id(slot.host) not in self._made:
                self._made[id(slot.host)] = _make(slot, self._over)
            slot.table[slot.key] = self._made[id(slot.host)].tensor
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
            made = self._made.get(id(slot.host))
            now = slot.table.get(slot.key)
            if made is None or now is None or now is slot.host:
                continue
            if now is made.tensor:
                written = [] if id(made) in home else made.written()
                home.add(id(made))
                for part, ours in written:
                    # Written in place while it was here (a buffer that counts, an in-place fuse).
                    part.copy_(ours.to("cpu"))
                changed += bool(written)
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


@dataclass(slots=True)
class _Made:
    """The device's ``tensor`` for a slot's, and ``parts``: of the host, with the device's and its version, of
    those whose changes are to be brought home."""

    tensor: torch.Tensor
    parts: list[tuple[torch.Tensor, torch.Tensor, int]]

    def written(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The host's and the device's, of those that were changed."""
        return [(part, ours) for part, ours, version in self.parts if _version(ours) != version]


def _make(slot: Slot, over: Callable[[torch.Tensor], tuple[torch.Tensor, bool]]) -> _Made:
    places = [over(part) for part in slot.parts]
    tensor = joined(slot.host, (piece for piece, _ in places))
    # Not the pieces: what a tensor is made of by its class may count changes for itself.
    made = zip(slot.parts, held(tensor), places, strict=True)
    return _Made(tensor, [(part, ours, _version(ours)) for part, ours, (_, kept) in made if kept])


def _brought_home(tensor: torch.Tensor) -> torch.Tensor:
    home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
