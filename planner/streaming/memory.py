"""The device memory that one component has, and which of its blocks lies where."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from planner.device.protocol import Device, Piece
from planner.graph.pieces import Pieces
from planner.graph.ring import Ring
from planner.streaming.tensors import DeviceTensors, Place


class DeviceMemory:
    """``pieces`` are cut for what stays, ``ring`` is for the blocks that come and go.

    Invariants:
    - every piece is in ``_owned`` from before it gets memory until it is freed or abandoned;
    - ``_staying`` are those of what stays, the first ones of ``pieces``; ``_coming`` is the ring's, None
      while it has none;
    - what others refer to is neither overwritten nor freed: its piece is abandoned, which is theirs then."""

    def __init__(
        self,
        device: Device,
        label: str,
        sizes: Mapping[int, int],
        pieces: Pieces,
        ring: Ring,
        tensors: DeviceTensors,
    ) -> None:
        """Takes none yet. ``sizes``: bytes of each block."""
        self.pieces = pieces
        self.ring = ring
        self._device = device
        self._label = label
        self._sizes = sizes
        self._tensors = tensors
        self._owned: list[Piece] = []
        self._staying: list[Piece] = []
        self._coming: Piece | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return sum(self.pieces.sizes[: self.count]) + (0 if self._coming is None else self.ring.room)

    @property
    def full(self) -> int:
        """Bytes that are held once all of it is."""
        return self.pieces.nbytes + self.ring.room

    @property
    def count(self) -> int:
        """How many of the pieces have memory."""
        return len(self._staying)

    def where(self, index: int) -> Place:
        """The place of a block that has one."""
        if index in self.ring:
            piece, offset = self._coming, self.ring.places[index]
        else:
            number, offset = self.pieces.offsets[index]
            piece = self._staying[number]
        assert piece is not None
        return Place(piece, (offset, offset + self._sizes[index], index))

    def take_next(self) -> int:
        """Memory for the next piece of what stays; returns its number. Raises torch's OutOfMemoryError."""
        self._staying.append(self._take(self.pieces.sizes[self.count]))
        return self.count - 1

    def take_rest(self) -> None:
        """Memory for all that has none. Raises torch's OutOfMemoryError with what was there as it was."""
        ring = self.ring.room
        taken: list[Piece] = []
        try:
            for size in (*self.pieces.sizes[self.count :], *([ring] if ring else [])):
                taken.append(self._take(size))
        except torch.OutOfMemoryError:
            for piece in taken:
                self._free(piece)
            raise
        if ring:
            self._coming = taken.pop()
        self._staying += taken

    def replace_ring(self) -> None:
        """The ring's memory is abandoned, and another takes its place. Raises torch's OutOfMemoryError."""
        before, self._coming = self._coming, None
        if before is not None:
            self._abandon(before)
        self._coming = self._take(self.ring.room)

    def give_after(self, count: int) -> None:
        """The first ``count`` pieces are left. Nothing may be bound over the others or the ring."""
        leaving = [*self._staying[count:], *([] if self._coming is None else [self._coming])]
        self._staying, self._coming = self._staying[:count], None
        for piece in leaving:
            self._give(piece)

    def give_all(self) -> None:
        """All of it. Nothing may be bound over it. Can be called again after an interruption."""
        for piece in [*self._owned]:
            self._give(piece)
        self._staying, self._coming = [], None

    def _take(self, nbytes: int) -> Piece:
        """Raises torch's OutOfMemoryError with nothing taken: its events are memory of the driver's, too."""
        before = len(self._owned)
        try:
            with torch.inference_mode(False), torch.no_grad():
                piece: Piece = self._device.alloc(nbytes, self._label, self._owned)
            # The memory may still be read by kernels queued before it was given back.
            self._device.wait("copy", self._device.record("compute"))
        except torch.OutOfMemoryError:
            for taken in self._owned[before:]:
                self._free(taken)
            raise
        return piece

    def _give(self, piece: Piece) -> None:
        if not piece.freed and any(map(self._tensors.referenced, self._tensors.over(piece))):
            self._abandon(piece)
            return
        if not piece.lasting:
            self._tensors.forget(piece)
        self._free(piece)

    def _free(self, piece: Piece) -> None:
        if not piece.freed:
            self._device.free(piece)
        self._disown(piece)

    def _abandon(self, piece: Piece) -> None:
        self._tensors.forget(piece)
        self._device.abandon(piece)
        self._disown(piece)

    def _disown(self, piece: Piece) -> None:
        if piece in self._owned:
            self._owned.remove(piece)
