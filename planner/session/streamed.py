"""A component of which a part stays on the device while it is in use; the other blocks come just in time.

The blocks that come share a few buffers, each always the same one, so tensors are bound once. When the
next block begins, the one before it is done: its buffer takes the block that is furthest ahead. The order
is the one in which the blocks ran last time; a block that is not there when it is called (another order, a
block called by itself) is brought then, and everything is right, only slower.
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
        """Queues what stays and the first blocks, and binds. On any failure the module is as it was."""
        self.nbytes = split.held
        self._device = device
        self._moved = moved
        self._master = master
        self._binding = Binding(master, module)
        free = [n for n, batch in enumerate(master.batches) if batch.leaves]
        self._comes = [n for n, stays in zip(free, split.stay, strict=True) if not stays]
        self._buffer = {n: i % split.slots for i, n in enumerate(self._comes)}
        self._order = [n for n in master.order if n in self._buffer] or list(self._comes)
        self._seen: list[int] = []
        self._current: int | None = None
        self._coming: dict[int, Any] = {}
        self._holds: dict[int, int] = {}
        self._hooks: list[Any] = []
        self._pieces: list[Any] = []
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
        """A forward begins: what lies outside of the blocks is waited for."""
        for number, batch in enumerate(self._master.batches):
            if batch.group.root is None:
                self._arrive(number)

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        for number in list(self._coming):
            if number not in self._buffer:
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
        with torch.inference_mode(False), torch.no_grad():
            if before in self._buffer:
                self._next_into(before)
            if number in self._buffer:
                self._note(number)
                if self._holds.get(self._buffer[number]) != number:
                    self._fetch(number, self._device.record("compute"))
            self._arrive(number)

    def _begin(self, label: str, split: Split) -> None:
        device, batches = self._device, self._master.batches
        self._pieces.append(device.alloc(split.resident, label))
        self._pieces += [device.alloc(split.slot, label) for _ in range(split.slots)]
        device.wait("copy", device.record("compute"))
        offsets, at = {}, 0
        for number, batch in enumerate(batches):
            if number not in self._buffer:
                offsets[number] = at
                at += batch.nbytes
        bases = [batch.base for batch in batches]
        first: dict[int, int] = {}
        for number in self._order:
            first.setdefault(self._buffer[number], number)
        for number, batch in enumerate(batches):
            if number in offsets:
                self._copy(batch, self._pieces[0], offsets[number])
                self._coming[number] = device.record("copy")
            elif first.get(self._buffer[number]) == number:
                self._fetch(number, None)
        self._binding.bind(lambda host: self._over(host, bases, offsets))

    def _over(
        self, host: torch.Tensor, bases: list[int], offsets: dict[int, int]
    ) -> tuple[torch.Tensor, bool]:
        """Where ``host`` lies on the device. A change to a block that comes is lost with its buffer."""
        place = self._master.places.get(id(host), 0)
        number = bisect_right(bases, place) - 1
        inside = place - bases[number]
        if number in self._buffer:
            return self._device.bind(self._pieces[1 + self._buffer[number]], inside, host), False
        return self._device.bind(self._pieces[0], offsets[number] + inside, host), True

    def _next_into(self, done: int) -> None:
        """``done`` has run: its buffer takes the next block that lives there."""
        at = self._order.index(done) if done in self._order else 0
        ahead = self._order[at + 1 :] + self._order[:at]
        buffer = self._buffer[done]
        following = next((n for n in ahead if self._buffer[n] == buffer), None)
        if following is not None and self._holds.get(buffer) == done:
            self._fetch(following, self._device.record("compute"))

    def _fetch(self, number: int, after: Any) -> None:
        """Queue a block into its buffer, once whoever ran there is done."""
        buffer = self._buffer[number]
        if after is not None:
            self._device.wait("copy", after)
        before = self._holds.get(buffer)
        if before is not None:
            self._coming.pop(before, None)
        self._holds[buffer] = number
        self._copy(self._master.batches[number], self._pieces[1 + buffer], 0)
        self._coming[number] = self._device.record("copy")

    def _copy(self, batch: Batch, piece: Any, offset: int) -> None:
        for place, source in batch.copies:
            self._device.copy(piece, offset + place - batch.base, source)
        self._moved(batch.nbytes)

    def _arrive(self, number: int) -> None:
        event = self._coming.pop(number, None)
        if event is not None:
            self._device.wait("compute", event)

    def _note(self, number: int) -> None:
        """The order of a forward, learned from the first one that runs every block once."""
        if number in self._seen:
            if len(self._seen) == len(self._comes):
                self._order = self._master.order = self._seen
            self._seen = []
        self._seen = [*self._seen, number]

    def _stop(self) -> int:
        for hook in self._hooks:
            hook.remove()
        for number in list(self._coming):
            self._arrive(number)
        if self._pieces:
            self._device.wait("compute", self._device.record("copy"))
        changed = self._binding.undo()
        for piece in self._pieces:
            self._device.free(piece)
        self._hooks, self._pieces = [], []
        return changed


class _Turn:
    """A forward pre-hook: it is this batch's turn."""

    def __init__(self, streamed: Streamed, number: int) -> None:
        self._streamed = streamed
        self._number = number

    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._streamed.turn(self._number)
