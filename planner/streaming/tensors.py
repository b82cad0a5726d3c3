"""The device's tensors that stand for the host's, block by block, and who else refers to them.

They are kept in ``HostWeights.made``, for the next time that their block lies at the same place: there is a
Parameter to make for each of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch.nn.modules.batchnorm import _NormBase

from planner.device.protocol import Device, Piece, Region
from planner.device.references import tensor_references
from planner.device.shared import writable
from planner.forms.wrapped import joined
from planner.host.entries import Entries, places, versions
from planner.host.layout import ORIGIN, HostWeights
from planner.streaming.gradients import tell_host
from planner.target.wrapped import held

_requires_grad = attrgetter("requires_grad")
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block lies: in a ``region`` of ``piece``."""

    piece: Piece
    region: Region

    @property
    def offset(self) -> int:
        """Of its first byte."""
        return self.region[0]


class BlockTensors:
    """A block's tensors at a ``place``, one for each of its ``entries``.

    Columns: ``tensors`` by entry; the plain ones that they are made of (``_own``), the host's for each
    (``_host``), how often each had been written when both were equal (``_versions``), its storage
    (``_storages``). ``storage`` is the one in which they lie."""

    def __init__(
        self,
        place: Place,
        entries: Entries,
        tensors: list[torch.Tensor],
        norms: Mapping[int, _NormBase],
        device: Device,
    ) -> None:
        """``norms``: by their table of buffers. ``count`` is due, once nobody else refers to ``tensors``."""
        self.place = place
        self.entries = entries
        self.tensors = tensors
        self._device = device
        self._host: list[torch.Tensor] = []
        self._own: list[torch.Tensor] = []
        self._statistics: list[tuple[int, _NormBase]] = []
        """Which of them batch norm may write, with the module."""
        seen: set[int] = set()
        for slot, tensor in zip(entries.slots, tensors, strict=True):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if slot.key in _STATISTICS and (norm := norms.get(id(slot.table))) is not None:
                self._statistics.append((len(self._own), norm))
            # Not the pieces: what a tensor is made of by its class may count changes for itself.
            for host, own in zip(slot.parts or (), held(tensor), strict=True):
                self._host.append(host)
                self._own.append(own)
        self._versions = versions(self._own)
        self._lie = places(tensors)
        self._counted = [*{id(tensor): tensor for tensor in (*tensors, *self._own)}.values()]
        self._references: list[int] = []
        self._storages = [*map(device.storage_of, self._own)]
        self.storage = self._storages[0] if self._own else 0

    def count(self) -> None:
        """By these counts others are told from now on."""
        self._references = self._count()

    def fits(self, place: Place) -> bool:
        """They are what would be made now."""
        wanted = [*map(_requires_grad, self.entries.hosts)]
        return self.place == place and [*map(_requires_grad, self.tensors)] == wanted

    def intact(self) -> bool:
        """None was moved or cast since."""
        return places(self.tensors) == self._lie

    def repointed(self) -> set[int]:
        """The ``id`` of those whose memory is another one since (``.data =``). It asks each, for which
        a block that comes at every step has no time."""
        if [*map(self._device.storage_of, self._own)] == self._storages:
            return set()
        there = {id(own): storage for own, storage in zip(self._own, self._storages, strict=True)}
        return {
            id(tensor)
            for tensor in self.tensors
            if any(self._device.storage_of(own) != there.get(id(own)) for own in held(tensor))
        }

    def referenced(self) -> bool:
        """Whether others refer to them, or to their memory. For a block that is unbound."""
        return self._count() != self._references

    def come_home(self) -> None:
        """What was written in place (a buffer that counts, an in-place fuse) is the host's too."""
        now, written = versions(self._own), self._uncounted()
        if now == self._versions and not written:
            return
        for at, (host, own) in enumerate(zip(self._host, self._own, strict=True)):
            if now[at] != self._versions[at] or at in written:
                with torch.inference_mode(False), torch.no_grad():
                    writable(host)
                    host.copy_(own.to("cpu"))
                self._versions[at] = now[at]

    def _uncounted(self) -> set[int]:
        """What a forward may have written without its version telling: batch norm's kernel writes the running
        statistics so (torch 2.13), and only the count of batches tells."""
        return {at for at, norm in self._statistics if norm.training or _has_counted(norm)}

    def _count(self) -> list[int]:
        memory = self._device.references(self.place.piece, self.place.region)
        return [memory, *tensor_references(self._counted)]


class DeviceTensors:
    """Those of one component, all of them on a device of one ``kind``.

    Invariant: what is kept of a block lies over memory that is the block's, or over the addresses of a
    lasting piece that has none now."""

    def __init__(self, host: HostWeights, device: Device, *, stays: bool) -> None:
        """``stays``: they are there between calls, and may be what an optimizer was given."""
        self.kind = device.name.type
        self._host = host
        self._device = device
        self._stays = stays
        self._in_storage = {known.storage: index for index, known in host.made.items()}

    def at(self, index: int, place: Place) -> BlockTensors:
        """A block's, over its ``place``."""
        known = self._host.made.get(index)
        if known is None or not known.fits(place):
            known = None
            self._host.made.pop(index, None)  # or what it has would count as others'
            entries = self._host.entries[index]
            known = BlockTensors(place, entries, self._make(entries, place), self._host.norms, self._device)
            known.count()
            ORIGIN.update(zip(known.tensors, entries.hosts, strict=True))
            self._in_storage[known.storage] = index
            self._host.made[index] = known
        return known

    def known(self, index: int) -> BlockTensors | None:
        """A block's, where there are any."""
        return self._host.made.get(index)

    def referenced(self, index: int) -> bool:
        """Whether others refer to a block's."""
        known = self.known(index)
        return known is not None and known.referenced()

    def over(self, piece: Piece) -> list[int]:
        """The blocks of which any lie over ``piece``."""
        return [index for index, known in [*self._host.made.items()] if known.place.piece is piece]

    def forget(self, piece: Piece) -> None:
        """What lies over ``piece`` is not ours any more."""
        for index in self.over(piece):
            del self._host.made[index]

    def in_storage_of(self, tensor: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The host's tensors that lie in the storage of a tensor on the device, each with the device's."""
        storage = self._device.storage_of(tensor)
        known = self.known(self._in_storage.get(storage, -1))
        for host, own in zip(known.entries.hosts, known.tensors, strict=True) if known is not None else ():
            if self._device.storage_of(own) == storage:  # not another one at the same address by now
                yield host, own

    def _make(self, entries: Entries, place: Place) -> list[torch.Tensor]:
        """One for each entry; a tensor that stands in two is one."""
        made: dict[int, torch.Tensor] = {}
        with torch.inference_mode(False), torch.no_grad():
            for slot in entries.slots:
                if id(slot.host) not in made:
                    pieces = [self._over(place, part) for part in slot.parts or ()]
                    made[id(slot.host)] = tensor = joined(slot.host, iter(pieces))
                    if self._stays and tensor.requires_grad:
                        tell_host(slot.host, tensor)
        return [made[id(slot.host)] for slot in entries.slots]

    def _over(self, place: Place, part: torch.Tensor) -> torch.Tensor:
        _, inside = self._host.places.get(id(part), (None, 0))
        return self._device.bind(place.piece, place.offset + inside, part, place.region)


def _has_counted(norm: _NormBase) -> bool:
    batches = norm._buffers.get("num_batches_tracked")
    return batches is not None and not batches.is_inference() and bool(batches._version)
