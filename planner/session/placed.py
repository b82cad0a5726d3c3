"""A component on the device while it is in use: all of it, or a part of it and the other blocks just in time.

Copies are queued block by block in the order in which the blocks ran last time, and a block's tensors are
bound when it begins. What does not stay shares a ring of device memory, each block at a place of its own,
as far ahead as the ring has room; when the next block begins, the one before it is done and its place is
free. A block that is not there when it is called (another order, a block called by itself) is brought
then, and everything is right, only slower.

Only the modules through which a forward enters a block are watched. Who reaches into a block past them
finds the host's tensors and fails, rather than reading what lies there; then, and where that could not be
seen, every module is watched (``heed``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

import torch

from planner.device.protocol import Device
from planner.graph.split import Split
from planner.session.binding import Binding
from planner.session.host import Batch, Master
from planner.target.blocks import compiled


class Placed:
    """One component on the device, until ``release``. ``nbytes`` are held; ``moved`` is told of every copy's
    bytes; ``split`` None: all of it stays."""

    def __init__(
        self,
        master: Master,
        module: torch.nn.Module,
        device: Device,
        label: str,
        split: Split | None,
        moved: Callable[[int], None],
        *,
        heedful: bool = False,
    ) -> None:
        """Queues the first copies. On any failure the module is as it was and nothing is held."""
        self.nbytes = master.nbytes if split is None else split.held
        self.heedful = heedful
        self._device = device
        self._moved = moved
        self._master = master
        self._batches: tuple[Batch, ...] = master.batches
        free = [n for n, batch in enumerate(self._batches) if batch.leaves]
        stay = (True,) * len(free) if split is None else split.stay
        comes = {n for n, stays in zip(free, stay, strict=True) if not stays}
        made = [n for n, batch in enumerate(self._batches) if batch.group.root is not None]
        self._order = list(master.order) or made
        order = dict.fromkeys((*self._order, *made))
        buffer = 0 if split is None else split.buffer
        self._places = _laid(((n, self._batches[n].nbytes) for n in order if n in comes), buffer)
        self._offsets = _packed((n, b.nbytes) for n, b in enumerate(self._batches) if n not in comes)
        self._first = [n for n, b in enumerate(self._batches) if b.group.root is None or b.compiled]
        """Waited for before a forward: what lies outside of the blocks, and what compiled ones borrow."""
        self._binding = Binding(master.slots, module, self._over)
        self._absent = set(self._offsets)
        self._there: list[int] = []
        """Blocks in the ring, on their way or arrived, in the order in which they were fetched."""
        self._ahead: set[int] = set()
        """Those of them that have not run yet."""
        self._coming: dict[int, Any] = {}
        self._route()
        self._thin = False
        """Whether only the blocks that come are watched, and whoever runs after one of them."""
        self._surprised = False
        self._passes = 0
        self._current: int | None = None
        self._done: Any = None
        """An event after the blocks that have run, while no copy has waited for it."""
        self._seen: dict[int, None] = {}
        self._clock = _Clock(device)
        self._unhook: dict[int, list[Callable[[], None]]] = {}
        self._stays: Any = None
        self._ring: Any = None
        with torch.inference_mode(False), torch.no_grad():
            try:
                self._stays = device.alloc(sum(self._batches[n].nbytes for n in self._offsets), label)
                self._ring = device.alloc(buffer, label) if buffer else None
                self._begin()
            except BaseException:
                self._stop()
                raise

    def listen(self) -> None:
        """A forward begins: the last one's order is known, what lies outside of the blocks is waited for."""
        self._learn()
        for number in self._first:
            self._arrive(number)

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        with torch.inference_mode(False), torch.no_grad():
            for number in sorted(self._absent):
                self._fetch_resident(number)
            for number in self._offsets:
                self._arrive(number)
                if not self._places:
                    self._forget(number)

    def heed(self) -> None:
        """From now on every module is watched, and everything is bound: nobody says what will be called."""
        self.settle()
        if not self.heedful:
            self.heedful = True
            with torch.inference_mode(False), torch.no_grad():
                for number in self._places:
                    self._watch(number)
                    self._binding.bind(number)

    def release(self) -> int:
        """Binds the host's tensors again and frees the device's; returns how many of those that stay were
        changed there. Those changes are brought home first."""
        with torch.inference_mode(False), torch.no_grad():
            changed = self._stop()
        self._master.seconds |= self._clock.read()
        return changed

    def turn(self, number: int) -> None:
        """A module of batch ``number`` is about to run."""
        if number == self._current:
            return
        before, self._current = self._current, number
        self._seen[number] = None
        self._clock.stop()
        with torch.inference_mode(False), torch.no_grad():
            if before in self._places:
                self._done = self._device.record("compute")
            if number in self._places and number not in self._there:
                self._surprised = True
                self._fetch(number)
            elif number in self._absent:
                self._fetch_resident(number)
            self._ahead.discard(number)
            self._look_ahead(number)
            self._arrive(number)
            if not self._places:
                self._forget(number)  # nothing will change any more
        self._clock.start(number)

    def need(self, number: int) -> None:
        """A module of another batch is about to use a tensor of batch ``number``, which stays."""
        with torch.inference_mode(False), torch.no_grad():
            self._fetch_resident(number)
            self._arrive(number)

    def _begin(self) -> None:
        # The memory may still be read by kernels queued before it was given back.
        self._device.wait("copy", self._device.record("compute"))
        first = self._master.first
        for number in self._first:
            self._fetch_resident(number)
            self._binding.bind(number)
        self._look_ahead(None)
        for number, batch in enumerate(self._batches):
            if batch.group.root is not None:
                self._watch(number)
        if first in self._places:
            self._binding.bind(first)  # ``module.device`` asks the first parameter
        elif first in self._offsets:
            self._fetch_resident(first)
            self._arrive(first)
        if self.heedful:
            for number in range(len(self._batches)):
                self._binding.bind(number)

    def _over(self, number: int, host: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Where ``host`` lies on the device. A change to a block that comes is lost with its place."""
        inside = self._master.places.get(id(host), self._batches[number].base) - self._batches[number].base
        if number in self._places:
            return self._device.bind(self._ring, self._places[number] + inside, host), False
        return self._device.bind(self._stays, self._offsets[number] + inside, host), True

    def _look_ahead(self, current: int | None) -> None:
        """Queue the copies of what runs next, up to the first block whose place is not free yet."""
        start = self._after.get(current, 0)
        for number in (*self._cycle[start:], *self._cycle[:start]):
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
        return start, start + self._batches[number].nbytes

    def _fetch(self, number: int) -> None:
        """Queue a block into its place, once whoever ran there is done."""
        if self._done is not None:
            self._device.wait("copy", self._done)
            self._done = None
        for other in self._below(number):
            self._there.remove(other)
            self._ahead.discard(other)
            self._coming.pop(other, None)
            if not self.heedful and other != self._master.first:
                self._binding.unbind(other)
        self._there.append(number)
        self._copy(number, self._ring, self._places[number])

    def _fetch_resident(self, number: int) -> None:
        if number in self._absent:
            self._absent.remove(number)
            self._copy(number, self._stays, self._offsets[number])

    def _copy(self, number: int, piece: Any, offset: int) -> None:
        batch = self._batches[number]
        for place, source in batch.copies:
            self._device.copy(piece, offset + place - batch.base, source)
        self._coming[number] = self._device.record("copy")
        self._moved(batch.nbytes)

    def _arrive(self, number: int) -> None:
        """The compute lane waits for a batch that is on its way, and it is bound."""
        event = self._coming.pop(number, None)
        if event is not None:
            self._device.wait("compute", event)
        with torch.inference_mode(False), torch.no_grad():
            self._binding.bind(number)

    def _learn(self) -> None:
        """What ran last time will run so again; what did not run is not brought before it is called."""
        seen, self._seen = list(self._seen), {}
        self._clock.stop()
        if not seen:
            return
        self._passes += 1
        self._clock.running = self._passes == 1 and bool(self._places)
        if not self._thin:
            self._order = self._master.order = seen
            self._route()
        if self._thin and self._surprised:
            self._rewatch(self._offsets.keys() | self._places.keys())
        elif self._passes > 1 and not (self._thin or self._surprised or self.heedful):
            followers = {b for a, b in zip(seen, (*seen[1:], seen[0]), strict=True) if a in self._places}
            self._rewatch(followers | self._places.keys())
        self._surprised = False

    def _route(self) -> None:
        """What is brought, in order, and where in it each block stands."""
        self._cycle = [n for n in self._order if n in self._places or n in self._absent]
        self._after: dict[int | None, int] = {}
        at = 0
        for number in self._order:
            at += number in self._places or number in self._absent
            self._after[number] = at

    def _rewatch(self, wanted: Set[int]) -> None:
        """Hooks on the blocks ``wanted`` and no others: each costs its part of every forward."""
        blocks = [n for n, batch in enumerate(self._batches) if batch.group.root is not None]
        self._thin = len(wanted) < len(blocks)
        for number in blocks:
            if number not in wanted and number != self._master.first:
                self._forget(number)
            elif number not in self._unhook:
                self._watch(number)

    def _watch(self, number: int) -> None:
        """Hooks on the modules through which the batch is entered; on all of them when heedful."""
        self._forget(number)
        batch, turn = self._batches[number], _Turn(self, number)
        every = self.heedful or number == self._master.first
        owners = batch.group.owners if every and not compiled(batch.group.root) else batch.entries
        self._unhook[number] = [
            *(_before(owner, turn) for owner in owners),
            *(_before(owner, _Need(self, number)) for owner in batch.borrowers),
        ]

    def _forget(self, number: int) -> None:
        for undo in self._unhook.pop(number, ()):
            undo()

    def _stop(self) -> int:
        self._learn()
        for number in list(self._unhook):
            self._forget(number)
        self._device.wait("compute", self._device.record("copy"))
        self._coming.clear()
        changed = self._binding.undo()
        for piece in (self._stays, self._ring):
            if piece is not None:
                self._device.free(piece)
        self._stays = self._ring = None
        return changed


class _Turn:
    """A forward pre-hook: it is this batch's turn."""

    def __init__(self, placed: Placed, number: int) -> None:
        self._placed = placed
        self._number = number

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._placed.turn(self._number)


class _Need:
    """A forward pre-hook: this batch must be there, though it is another's turn."""

    def __init__(self, placed: Placed, number: int) -> None:
        self._placed = placed
        self._number = number

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        self._placed.need(self._number)


class _Clock:
    """How long each block computes, where the device can tell: the time between two marks on its lane."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._open: tuple[int, Any] | None = None
        self.running = False
        self.marks: list[tuple[int, Any, Any]] = []

    def start(self, number: int) -> None:
        """Block ``number`` begins: what it waited for is there."""
        if self.running and (mark := self._device.mark()) is not None:
            self._open = (number, mark)

    def stop(self) -> None:
        """The block that was begun is over."""
        if self._open is not None:
            self.marks.append((*self._open, self._device.mark()))
            self._open = None

    def read(self) -> dict[int, float]:
        """Seconds by block. The device must have done what it was told to do."""
        return {number: self._device.between(start, end) for number, start, end in self.marks}


def _before(owner: torch.nn.Module, turn: _Turn | _Need) -> Callable[[], None]:
    """Calls ``turn`` before ``owner`` runs, outside of what is compiled. Returns what takes it off again."""
    inner = owner._compiled_call_impl
    if inner is None or not compiled(owner):
        handle = owner.register_forward_pre_hook(turn, prepend=True)
        return handle.remove

    def call(*args: Any, **kwargs: Any) -> Any:
        turn(owner, args)
        return inner(*args, **kwargs)

    owner.__dict__["_compiled_call_impl"] = call

    def undo() -> None:
        if owner.__dict__.get("_compiled_call_impl") is call:
            owner.__dict__["_compiled_call_impl"] = inner

    return undo


def _laid(blocks: Iterable[tuple[int, int]], room: int) -> dict[int, int]:
    """A place in a ring of ``room`` bytes for each ``(number, bytes)``: one after the other, and again from
    the start when the next would not fit."""
    places, at = {}, 0
    for number, nbytes in blocks:
        if at + nbytes > room:
            at = 0
        places[number] = at
        at += nbytes
    return places


def _packed(blocks: Iterable[tuple[int, int]]) -> dict[int, int]:
    """One after the other."""
    places, at = {}, 0
    for number, nbytes in blocks:
        places[number] = at
        at += nbytes
    return places
