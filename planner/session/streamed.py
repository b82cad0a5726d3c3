"""A component of which a part stays on the device while it is in use; the other blocks come just in time.

The blocks that come share a ring of device memory, each at a place of its own, so tensors are bound once.
Copies are queued in the order in which the blocks ran last time, as far ahead as the ring has room; when
the next block begins, the one before it is done and its place is free. A block that is not there when it
is called (another order, a block called by itself) is brought then, and everything is right, only slower.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch

from planner.device.protocol import Device
from planner.graph.split import Split
from planner.session.bound import Binding
from planner.session.host import Batch, Master


class Streamed:
    """One streamed component on the device, until ``release``. ``nbytes`` are held; ``moved`` is told of
    every copy's bytes."""

    def __init__(
        self,
        master: Master,
        module: torch.nn.Module,
        device: Device,
        label: str,
        split: Split,
        moved: Callable[[int], None],
    ) -> None:
        """Queues the first copies and binds. On any failure the module is as it was."""
        self.nbytes = split.held
        self._device = device
        self._moved = moved
        self._master = master
        self._binding = Binding(master, module)
        self._hooks: list[Any] = []
        self._stays: Any = None
        self._ring: Any = None
        free = [n for n, batch in enumerate(master.batches) if batch.leaves]
        comes = {n for n, stays in zip(free, split.stay, strict=True) if not stays}
        made = [n for n, batch in enumerate(master.batches) if batch.group.root is not None]
        self._order = list(master.order) or made
        self._at = {n: at for at, n in enumerate(self._order)}
        order = dict.fromkeys((*self._order, *made))
        self._places = _laid(((n, master.batches[n].nbytes) for n in order if n in comes), split.buffer)
        self._absent = {n for n in range(len(master.batches)) if n not in comes}
        self._there: list[int] = []
        """Blocks in the ring, on their way or arrived, in the order in which they were fetched."""
        self._ahead: set[int] = set()
        """Those of them that have not run yet."""
        self._coming: dict[int, Any] = {}
        self._current: int | None = None
        self._done: Any = None
        """An event after the blocks that have run, while no copy has waited for it."""
        self._seen: dict[int, None] = {}
        with torch.inference_mode(False), torch.no_grad():
            try:
                self._begin(label, split)
            except BaseException:
                self._stop()
                raise
        self._hooks = [
            owner.register_forward_pre_hook(_Turn(self, number), prepend=True)
            for number, batch in enumerate(master.batches)
            if batch.group.root is not None
            for owner in batch.group.owners
        ]

    def listen(self) -> None:
        """A forward begins: the order of the last one is known, what lies outside of the blocks is waited for."""
        self._learn()
        for number, batch in enumerate(self._master.batches):
            if batch.group.root is None:
                self._arrive(number)

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        with torch.inference_mode(False), torch.no_grad():
            for number in sorted(self._absent):
                self._fetch_resident(number)
            for number in list(self._coming):
                if number not in self._places:
                    self._arrive(number)

    def release(self) -> int:
        """Binds the host's tensors again and frees the device's; returns how many of those that stay were
        changed there."""
        with torch.inference_mode(False), torch.no_grad():
            return self._stop()

    def turn(self, number: int) -> None:
        """A module of batch ``number`` is about to run."""
        if number == self._current:
            return
        before, self._current = self._current, number
        self._seen[number] = None
        with torch.inference_mode(False), torch.no_grad():
            if before in self._places:
                self._done = self._device.record("compute")
            if number in self._places and number not in self._there:
                self._fetch(number)
            elif number in self._absent:
                self._fetch_resident(number)
            self._ahead.discard(number)
            self._look_ahead(number)
            self._arrive(number)

    def _begin(self, label: str, split: Split) -> None:
        device, batches = self._device, self._master.batches
        self._stays = device.alloc(split.resident, label)
        self._ring = device.alloc(split.buffer, label)
        device.wait("copy", device.record("compute"))
        self._offsets, at = {}, 0
        for number, batch in enumerate(batches):
            if number not in self._places:
                self._offsets[number] = at
                at += batch.nbytes
                if batch.group.root is None:
                    self._fetch_resident(number)
        self._look_ahead(None)
        bases = [batch.base for batch in batches]
        self._binding.bind(lambda host: self._over(host, bases))

    def _over(self, host: torch.Tensor, bases: list[int]) -> tuple[torch.Tensor, bool]:
        """Where ``host`` lies on the device. A change to a block that comes is lost with its place."""
        place = self._master.places.get(id(host), 0)
        number = bisect_right(bases, place) - 1
        inside = place - bases[number]
        if number in self._places:
            return self._device.bind(self._ring, self._places[number] + inside, host), False
        return self._device.bind(self._stays, self._offsets[number] + inside, host), True

    def _look_ahead(self, current: int | None) -> None:
        """Queue the copies of what runs next, up to the first block whose place is not free yet."""
        start = 0 if current is None else self._at.get(current, -1) + 1
        for number in (*self._order[start:], *self._order[: max(0, start - 1)]):
            if number in self._absent:
                self._fetch_resident(number)
            elif number in self._places and number not in self._there:
                if any(other == current or other in self._ahead for other in self._below(number)):
                    return
                self._fetch(number)
                self._ahead.add(number)

    def _below(self, number: int) -> list[int]:
        """Blocks in the ring whose places ``number`` would write over."""
        start, end = self._span(number)
        return [n for n in self._there if self._span(n)[0] < end and start < self._span(n)[1]]

    def _span(self, number: int) -> tuple[int, int]:
        start = self._places[number]
        return start, start + self._master.batches[number].nbytes

    def _fetch(self, number: int) -> None:
        """Queue a block into its place, once whoever ran there is done."""
        if self._done is not None:
            self._device.wait("copy", self._done)
            self._done = None
        for other in self._below(number):
            self._there.remove(other)
            self._ahead.discard(other)
            self._coming.pop(other, None)
        self._there.append(number)
        self._copy(number, self._ring, self._places[number])

    def _fetch_resident(self, number: int) -> None:
        if number in self._absent:
            self._absent.remove(number)
            self._copy(number, self._stays, self._offsets[number])

    def _copy(self, number: int, piece: Any, offset: int) -> None:
        batch: Batch = self._master.batches[number]
        for place, source in batch.copies:
            self._device.copy(piece, offset + place - batch.base, source)
        self._coming[number] = self._device.record("copy")
        self._moved(batch.nbytes)

    def _arrive(self, number: int) -> None:
        event = self._coming.pop(number, None)
        if event is not None:
            self._device.wait("compute", event)

    def _learn(self) -> None:
        """What ran last time will run so again; what did not run is not brought before it is called."""
        seen, self._seen = list(self._seen), {}
        if seen and seen != self._order:
            self._order = self._master.order = seen
            self._at = {n: at for at, n in enumerate(self._order)}

    def _stop(self) -> int:
        for hook in self._hooks:
            hook.remove()
        self._device.wait("compute", self._device.record("copy"))
        self._coming.clear()
        changed = self._binding.undo()
        for piece in (self._stays, self._ring):
            if piece is not None:
                self._device.free(piece)
        self._hooks, self._stays, self._ring = [], None, None
        return changed


class _Turn:
    """A forward pre-hook: it is this batch's turn."""

    def __init__(self, streamed: Streamed, number: int) -> None:
        self._streamed = streamed
        self._number = number

    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._streamed.turn(self._number)


def _laid(blocks: Any, room: int) -> dict[int, int]:
    """A place in a ring of ``room`` bytes for each ``(number, bytes)``: one after the other, and again from
    the start when the next would not fit."""
    places, at = {}, 0
    for number, nbytes in blocks:
        if at + nbytes > room:
            at = 0
        places[number] = at
        at += nbytes
    return places
