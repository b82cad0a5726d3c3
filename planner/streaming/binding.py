"""The device's tensors in the place of the host's, given back by identity.

A tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that owns
it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for wrapper
tensors and for backends other than CUDA. The host's tensor is not written, unless the device's was written in
place: then it gets the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from planner.device.protocol import Device, Piece, Region
from planner.device.references import tensor_references
from planner.device.shared import writable
from planner.forms.wrapped import joined
from planner.host.layout import ORIGIN, HostWeights
from planner.host.regions import Slot
from planner.streaming.gradients import on_device, tell_host
from planner.target.wrapped import held


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block lies: in a ``region`` of ``piece``."""

    piece: Piece
    region: Region

    @property
    def offset(self) -> int:
        """Of its first byte."""
        return self.region[0]


class Binding:
    """The slots of one component, bound block by block.

    The device's tensors are kept in ``HostWeights.made``, for the next time that their block lies at the same
    place: there is a Parameter to make for each of thousands.

    Invariants: a block that is not in ``_bound`` has no tensor of ``made`` in a module's table (what is in it
    may or may not have: unbinding looks at each slot, and can be done again after an interruption).
    """

    def __init__(
        self,
        host: HostWeights,
        device: Device,
        where: Callable[[int], Place],
        over: Callable[[Place, torch.Tensor], torch.Tensor],
        *,
        stays: bool = False,
    ) -> None:
        """``where``: the place of a block; ``over``: a plain tensor of it on the device; ``stays``: the
        device's tensors are there between calls, and may be what an optimizer was given. Binds nothing."""
        self.gradients = False
        """Whether what is bound from now on passes gradients on to the host's tensors."""
        self._host = host
        self._device = device
        self._where = where
        self._over = over
        self._stays = stays
        self._bound: dict[int, bool] = {}
        """With whether it was bound to pass gradients on."""

    def __contains__(self, index: int) -> bool:
        """Whether the block is bound, as ``gradients`` says."""
        return self._bound.get(index) is self.gradients

    def bind(self, index: int) -> None:
        """The device's tensors, for one block. A slot that holds neither tensor of ours is left alone:
        somebody put another there (``torch.func.functional_call``)."""
        if index in self:
            return
        self._bound[index] = self.gradients
        slots, made = self._host.slots[index], self._made(index).tensors
        for slot, one in zip(slots, made, strict=True):
            if self._is_ours(slot, slot.table.get(slot.key)):
                slot.table[slot.key] = on_device(slot.host, one.tensor) if self.gradients else one.tensor
        self._flatten()

    def bind_again(self) -> None:
        """Every block that is bound: another component that shares a module may have bound or unbound it
        since."""
        for index in [*self._bound]:
            del self._bound[index]
            self.bind(index)

    def unbind(self, index: int) -> None:
        """The host's tensors, for a block whose memory is about to be another's."""
        if index in self._bound:
            self._unbind(index)
            del self._bound[index]
            self._flatten()

    def unbind_all(self) -> None:
        """The host's tensors again, for all blocks."""
        for index in [*self._bound]:
            self._unbind(index)
            del self._bound[index]
        self._flatten()

    def referenced(self, index: int) -> bool:
        """Whether others refer to the device's tensors of a block, or to their memory. For one that is
        unbound."""
        known = self._host.made.get(index)
        return known is not None and known.referenced(self._device)

    def forget(self, piece: Piece) -> None:
        """What was bound over ``piece`` is not ours any more."""
        for index, known in [*self._host.made.items()]:
            if known.place.piece is piece:
                del self._host.made[index]

    def weights(self, index: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each of a block's tensors on the host, with the device's."""
        if (known := self._host.made.get(index)) is not None:
            yield from (
                (slot.host, one.tensor)
                for slot, one in zip(self._host.slots[index], known.tensors, strict=True)
            )

    def intact(self) -> bool:
        """Whether every bound slot holds a tensor on the device, and none of ours that was moved or cast:
        submodules may have been, past our hooks."""
        for index in [*self._bound]:
            known = self._host.made.get(index)
            for slot, one in zip(
                self._host.slots[index] if known else (), known.tensors if known else (), strict=True
            ):
                now = slot.table.get(slot.key)
                if now is one.tensor:
                    if now.device.type != one.device or now.dtype != slot.host.dtype:
                        return False
                # Another tensor on the device is what its user wants there, until it is brought home.
                elif now is None or now.device.type != one.device or self._origin(now) is slot.host:
                    return False
        return True

    def _made(self, index: int) -> _Bound:
        place, known, slots = self._where(index), self._host.made.get(index), self._host.slots[index]
        if known is None or known.place != place or not known.fits(slots):
            known = None
            self._host.made.pop(index, None)  # or what it has would count as others'
            known = _Bound(place, self._make(slots, place))
            known.count(self._device)
            self._host.made[index] = known
            ORIGIN.update((one.tensor, slot.host) for slot, one in zip(slots, known.tensors, strict=True))
        return known

    def _make(self, slots: Sequence[Slot], place: Place) -> list[_Made]:
        """One for each slot; a tensor that stands in two is one."""
        made: dict[int, _Made] = {}
        for slot in slots:
            if id(slot.host) not in made:
                pieces = [self._over(place, part) for part in slot.parts or ()]
                tensor = joined(slot.host, iter(pieces))
                # Not the pieces: what a tensor is made of by its class may count changes for itself.
                ours = zip(slot.parts or (), held(tensor), strict=True)
                parts = [_Part(part, own, _version(own)) for part, own in ours]
                made[id(slot.host)] = _Made(tensor, tensor.device.type, parts)
                if self._stays and tensor.requires_grad:
                    tell_host(slot.host, tensor)
        return [made[id(slot.host)] for slot in slots]

    def _is_ours(self, slot: Slot, now: torch.Tensor | None) -> bool:
        """Whether a slot holds the host's tensor, or one that stood for it on the device."""
        return now is slot.host or (now is not None and self._origin(now) is slot.host)

    def _origin(self, tensor: torch.Tensor) -> torch.Tensor | None:
        found: torch.Tensor | None = ORIGIN.get(tensor)  # type: ignore[no-untyped-call]
        if found is None and tensor.grad_fn is not None:
            found = getattr(tensor.grad_fn, "host", None)
        return found

    def _unbind(self, index: int) -> None:
        known = self._host.made.get(index)
        made: Sequence[_Made | None] = (
            known.tensors if known is not None else [None] * len(self._host.slots[index])
        )
        for slot, one in zip(self._host.slots[index], made, strict=True):
            if one is not None:
                one.come_home(written=self._written_uncounted(slot))
            now = slot.table.get(slot.key)
            if now is slot.host or now is None:
                continue
            if (one is not None and now is one.tensor) or self._origin(now) is slot.host:
                if one is not None and (now.device.type != one.device or now.dtype != slot.host.dtype):
                    # A submodule was moved or cast past our hooks: its values are the truth.
                    slot.host.data = now.detach().to("cpu")
                slot.table[slot.key] = slot.host
            elif now.device.type != "cpu":
                # Replaced by another tensor on the device: that one is the truth now.
                slot.table[slot.key] = brought_home(now)

    def _written_uncounted(self, slot: Slot) -> bool:
        """Whether a forward may have written a tensor without its version telling: batch norm's kernel writes
        the running statistics so (torch 2.13), and only the count of batches tells."""
        norm = self._host.norms.get(id(slot.table))
        if norm is None or slot.key not in ("running_mean", "running_var"):
            return False
        batches = slot.table.get("num_batches_tracked")
        return norm.training or (batches is not None and bool(_version(batches)))

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._host.rnns:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


@dataclass(slots=True)
class _Part:
    """A plain tensor of the host, the device's, and how often that had been written when both were equal."""

    host: torch.Tensor
    own: torch.Tensor
    version: int
    references: int = 0


@dataclass(slots=True)
class _Made:
    """The device's ``tensor`` for a slot's. ``device``: the type of its device. ``references``: to it, while
    it is not bound and only we know it."""

    tensor: torch.Tensor
    device: str
    parts: list[_Part]
    references: int = 0

    def come_home(self, *, written: bool = False) -> None:
        """What was written in place (a buffer that counts, an in-place fuse) is the host's too. ``written``:
        it may have been, whatever its version says."""
        for part in self.parts:
            if (now := _version(part.own)) != part.version or written:
                with torch.inference_mode(False), torch.no_grad():
                    writable(part.host)
                    part.host.copy_(part.own.to("cpu"))
                part.version = now


@dataclass(slots=True)
class _Bound:
    """A block's tensors at a place, in the order of its slots. ``references``: to the memory, with no
    others'."""

    place: Place
    tensors: list[_Made]
    references: int = 0
    _unique: list[_Made | _Part] = field(default_factory=list)

    def fits(self, slots: Sequence[Slot]) -> bool:
        """They are what would be made now."""
        return all(
            made.tensor.requires_grad == slot.host.requires_grad
            for slot, made in zip(slots, self.tensors, strict=True)
        )

    def count(self, device: Device) -> None:
        """Now that nobody else refers to them."""
        unique = [*{id(made): made for made in self.tensors}.values()]
        inner = [part for made in unique for part in made.parts if part.own is not made.tensor]
        self._unique = [*unique, *inner]
        for made in unique:
            made.references = tensor_references(made.tensor)
        for part in inner:
            part.references = tensor_references(part.own)
        self.references = device.references(self.place.piece, self.place.region)

    def referenced(self, device: Device) -> bool:
        """Whether others do, by the counts then."""
        if device.references(self.place.piece, self.place.region) != self.references:
            return True
        for one in self._unique:
            if isinstance(one, _Made):
                if tensor_references(one.tensor) != one.references:
                    return True
            elif tensor_references(one.own) != one.references:
                return True
        return False


def brought_home(tensor: torch.Tensor) -> torch.Tensor:
    """The same on the host, a Parameter where it is one."""
    home = tensor.detach().to("cpu")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(home, requires_grad=tensor.requires_grad)
    return home


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
