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

from planner.device.protocol import Piece
from planner.session.host import Master
from planner.session.weights import Slot
from planner.session.wrapped import joined
from planner.target.wrapped import held


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch lies: at ``offset`` in ``piece``. ``stays``: what is written there comes home."""

    piece: Piece
    offset: int
    stays: bool


class Binding:
    """The slots of one component, bound batch by batch.

    The device's tensors are kept, for the next time that their batch lies at the same place: there is a
    Parameter to make for each of thousands.
    """

    def __init__(
        self,
        master: Master,
        where: Callable[[int], Place],
        over: Callable[[Place, torch.Tensor], torch.Tensor],
    ) -> None:
        """``where``: the place of a batch; ``over``: a plain tensor of it on the device. Binds nothing."""
        self._master = master
        self._where = where
        self._over = over
        self._bound: set[int] = set()

    def __contains__(self, batch: int) -> bool:
        """Whether it is bound."""
        return batch in self._bound

    def bind(self, batch: int) -> None:
        """The device's tensors, for one batch."""
        if batch in self._bound:
            return
        self._bound.add(batch)
        place, known = self._where(batch), self._master.made.get(batch)
        slots = self._master.slots[batch]
        if known is None or known.place != place or not known.fits(slots):
            known = self._master.made[batch] = _Bound(place, self._make(slots, place))
        for slot, made in zip(slots, known.made, strict=True):
            slot.table[slot.key] = made.tensor
        self._flatten()

    def unbind(self, batch: int) -> None:
        """The host's tensors, for a batch whose memory is about to be another's."""
        if batch in self._bound:
            self._undo(batch)
            self._flatten()

    def undo(self) -> int:
        """The host's tensors again, for all. Returns how many had been changed on the device."""
        changed = sum(self._undo(batch) for batch in tuple(self._bound))
        for batch, known in tuple(self._master.made.items()):
            if not known.place.piece.lasting:
                del self._master.made[batch]
        self._flatten()
        return changed

    def _make(self, slots: Sequence[Slot], place: Place) -> list[_Made]:
        """One for each slot; a tensor that stands in two is one."""
        made: dict[int, _Made] = {}
        for slot in slots:
            if id(slot.host) not in made:
                pieces = [self._over(place, part) for part in slot.parts]
                tensor = joined(slot.host, iter(pieces))
                # Not the pieces: what a tensor is made of by its class may count changes for itself.
                ours = zip(slot.parts, held(tensor), strict=True) if place.stays else ()
                made[id(slot.host)] = _Made(tensor, [(part, own, _version(own)) for part, own in ours])
        return [made[id(slot.host)] for slot in slots]

    def _undo(self, batch: int) -> int:
        self._bound.remove(batch)
        changed = 0
        for slot, made in zip(self._master.slots[batch], self._master.made[batch].made, strict=True):
            now = slot.table.get(slot.key)
            if now is made.tensor:
                changed += made.come_home()
                slot.table[slot.key] = slot.host
            elif now is not None and now.device.type != "cpu":
                # Replaced by another tensor on the device: that one is the truth now.
                changed += 1
                slot.table[slot.key] = _brought_home(now)
        return changed

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._master.rnns:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


@dataclass(slots=True)
class _Made:
    """The device's ``tensor`` for a slot's, and ``parts``: of the host, with the device's and its version, of
    those whose changes are to be brought home."""

    tensor: torch.Tensor
    parts: list[tuple[torch.Tensor, torch.Tensor, int]]

    def come_home(self) -> bool:
        """What was written in place (a buffer that counts, an in-place fuse) is the host's too. Whether
        anything was."""
        written = [(part, ours) for part, ours, version in self.parts if _version(ours) != version]
        for part, ours in written:
            part.copy_(ours.to("cpu"))
        if written:
            self.parts = [(part, ours, _version(ours)) for part, ours, _ in self.parts]
        return bool(written)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A batch's tensors at a place, in the order of its slots."""

    place: Place
    made: list[_Made]

    def fits(self, slots: Sequence[Slot]) -> bool:
        """They are what would be made now."""
        return all(
            made.tensor.requires_grad == slot.host.requires_grad
            for slot, made in zip(slots, self.made, strict=True)
        )


def _brought_home(tensor: torch.Tensor) -> torch.Tensor:
    home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
