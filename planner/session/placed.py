"""A component on the device while it is in use: all of it, or a part of it and the other blocks just in time.

Some of it may come early, while another component still runs; ``complete`` then brings the rest.

Copies are queued block by block in the order in which the blocks ran last time, and a block's tensors are
bound when it begins. What does not stay comes through a ring, as far ahead as there is room: when the next
block begins, the one before it is done and its place is free. A block that is not there when it is called
(another order, a block called by itself) is brought then, and everything is right, only slower.

Once they are known, only the modules through which a forward enters a block are watched, and then only the
blocks that come. Who reaches into a block past them finds the host's tensors and fails, rather than reading
what lies there; then, and where that could not be seen, every module is watched (``heed``).
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import torch

from planner.device.protocol import Device
from planner.graph.ring import Ring
from planner.graph.split import Split
from planner.session.binding import Binding, Place
from planner.session.host import Batch, Master, Path
from planner.session.pieces import Pieces
from planner.session.watch import Clock, Watch
from planner.target.blocks import compiled


class Placed:
    """One component on the device, until ``release``. ``nbytes`` are held now; ``moved`` is told of every
    copy's bytes; ``split`` None: all of it stays; ``early``: not all of it has a place yet."""

    def __init__(
        self,
        master: Master,
        device: Device,
        label: str,
        split: Split | None,
        moved: Callable[[int], None],
        *,
        entry: str = "",
        heedful: bool = False,
        early: int | None = None,
        grain: int = 0,
    ) -> None:
        """Queues the first copies, in the order in which ``entry`` runs. On any failure the module
        is as it was and nothing is held. ``grain``: bytes of the pieces that ``shed`` gives, 0: none."""
        self.nbytes = 0
        self.early = early is not None
        self.heedful = heedful
        self._device = device
        self._moved = moved
        self._master = master
        self._batches: tuple[Batch, ...] = master.batches
        self._outside = [n for n, b in enumerate(self._batches) if b.group.root is None or b.compiled]
        """Waited for before a forward: what lies outside of the blocks, and what compiled ones borrow."""
        self._blocks = [n for n, b in enumerate(self._batches) if b.group.root is not None]
        self._entry = entry
        self._path = master.paths.setdefault(entry, Path())
        self._ring = self._ring_of(split)
        whole = sum(batch.nbytes for batch in self._batches)
        cuts = [*(range(grain, whole, grain) if grain else ()), *([] if early is None else [early])]
        stay = (n for n in range(len(self._batches)) if n not in self._ring)
        fixed_first = sorted(stay, key=lambda n: self._batches[n].leaves)
        self._pieces = Pieces(((n, self._batches[n].nbytes) for n in fixed_first), cuts)
        self._absent = set(self._pieces.offsets)
        self._route()
        self._binding = Binding(master, self._where, self._over)
        self._watch = Watch()
        self._clock = Clock(device)
        self._coming: dict[int, Any] = {}
        self._done: Any = None
        """An event after the blocks that have run, while no copy has waited for it."""
        self._current: int | None = None
        self._seen: dict[int, None] = {}
        self._entered: dict[int, dict[torch.nn.Module, None]] = {}
        self._passes = 0
        self._thin = False
        """Whether only the blocks that come are watched, and whoever runs after one of them."""
        self._surprised = False
        self._label = label
        self._memory: list[Any] = []
        self._through: Any = None
        try:
            if early is None:
                self.complete()
            else:
                self._wait_early(early)
        except BaseException:
            self.release()
            raise

    def complete(self) -> None:
        """All of it gets its place, and the copies are queued. Raises torch's OutOfMemoryError with what was
        there as it was."""
        with torch.inference_mode(False), torch.no_grad():
            taken: list[Any] = []
            try:
                left = self._pieces.sizes[len(self._memory) :]
                for size in (*left, *([self._ring.room] if self._ring.room else [])):
                    taken.append(self._take(size))
            except torch.OutOfMemoryError:
                for piece in taken:
                    self._device.free(piece)
                raise
            if self._ring.room:
                self._through = taken.pop()
            self._memory += taken
            self.nbytes = self.full
            self.early = False
            self._begin()

    def shed(self, nbytes: int) -> None:
        """So many bytes leave, as far as they go in whole pieces: the ring, then what runs last. ``complete``
        brings them again."""
        core = self._pieces.left(len(self._memory), nbytes - self._ring.room)
        if core < len(self._memory) or self._ring.places:
            self._withdraw(core)
            self._route()

    def grows(self, split: Split | None) -> bool:
        """Whether more of it would stay by ``split``, and all that stays now."""
        return self._ring_of(split).places.keys() < self._ring.places.keys()

    def grow(self, split: Split | None) -> None:
        """More of it stays, as by ``split``, once ``complete`` has brought it."""
        self._withdraw(len(self._memory))
        before, self._ring = self._ring, self._ring_of(split)
        more = [number for number in before.places if number not in self._ring]
        self._pieces.add((number, self._batches[number].nbytes) for number in more)
        self._absent.update(more)
        self._route()

    def _withdraw(self, core: int) -> None:
        """The first ``core`` pieces stay, and nothing that comes."""
        gone = self._pieces.after(core)
        with torch.inference_mode(False), torch.no_grad():
            self._part()
            for number in (*gone, *self._ring.places):
                self._binding.unbind(number)
            self._give(self._memory[core:])
        self._passes, self._thin = 0, False
        self._memory = self._memory[:core]
        self._absent |= gone
        self._ring.clear()
        self._done = self._current = None
        self.nbytes = sum(self._pieces.sizes[:core])
        self.early = True

    @property
    def full(self) -> int:
        """Bytes that it holds once ``complete`` was called."""
        return self._pieces.nbytes + self._ring.room

    def listen(self, entry: str = "") -> None:
        """A forward begins through ``entry``: the last one is over, what lies outside of the blocks is
        waited for."""
        self._learn()
        if entry != self._entry:
            self._entry, self._path = entry, self._master.paths.setdefault(entry, Path())
            self._passes = 0
            self._route()
            self._rewatch({*self._blocks})
        for number in self._outside:
            self._arrive(number)

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        with torch.inference_mode(False), torch.no_grad():
            for number in sorted(self._absent):
                self._fetch(number)
            for number in self._pieces.offsets:
                self._arrive(number)
                self._forget_settled(number)

    def heed(self) -> None:
        """From now on every module is watched, and everything is bound: nobody says what will be called."""
        self.settle()
        if not self.heedful:
            self.heedful = True
            with torch.inference_mode(False), torch.no_grad():
                for number in self._ring.places:
                    self._watch_batch(number)
                    self._binding.bind(number)

    def release(self) -> int:
        """Binds the host's tensors again and frees the device's; returns how many of those that stay were
        changed there. Those changes are brought home first."""
        with torch.inference_mode(False), torch.no_grad():
            changed = self._stop()
        self._master.seconds |= self._clock.read(wait=True)
        return changed

    def turn(self, number: int, module: torch.nn.Module) -> None:
        """``module`` of batch ``number`` is about to run."""
        if number == self._current:
            return
        self._entered.setdefault(number, {})[module] = None
        before, self._current = self._current, number
        self._seen[number] = None
        self._clock.stop()
        with torch.inference_mode(False), torch.no_grad():
            if before in self._ring:
                self._done = self._device.record("compute")
            if number in self._ring and not self._ring.has(number):
                self._surprised = True
                self._done = self._device.record("compute")  # modules of another component may have run there
                self._fetch_through(number, ahead=False)
            self._fetch(number)
            self._ring.runs(number)
            self._look_ahead(number)
            self._arrive(number)
            self._forget_settled(number)
        self._clock.start(number)

    def need(self, number: int, module: torch.nn.Module) -> None:
        """``module`` of another batch is about to use a tensor of batch ``number``, which stays."""
        with torch.inference_mode(False), torch.no_grad():
            self._fetch(number)
            self._arrive(number)

    @property
    def stays(self) -> set[int]:
        """The blocks that stay, by their place among those that may come."""
        free = [n for n, batch in enumerate(self._batches) if batch.leaves]
        return {at for at, number in enumerate(free) if number not in self._ring}

    def _ring_of(self, split: Split | None) -> Ring:
        """For the blocks that come, in the order in which they ran last time."""
        free = [n for n, batch in enumerate(self._batches) if batch.leaves]
        stay = (True,) * len(free) if split is None else split.stay
        comes = {n for n, stays in zip(free, stay, strict=True) if not stays}
        order = [n for n in dict.fromkeys((*self._path.order, *self._blocks)) if n in comes]
        return Ring({n: self._batches[n].nbytes for n in order}, 0 if split is None else split.buffer)

    def _wait_early(self, early: int) -> None:
        """Queue what has a place already; nobody asks for it yet."""
        with torch.inference_mode(False), torch.no_grad():
            for piece, size in enumerate(self._pieces.sizes[: self._pieces.within(early)]):
                self._memory.append(self._take(size))
                self.nbytes += size
                for number in self._pieces.inside(piece):  # on their way while the next is taken
                    self._fetch(number)

    def _take(self, nbytes: int) -> Any:
        piece = self._device.alloc(nbytes, self._label)
        # The memory may still be read by kernels queued before it was given back.
        self._device.wait("copy", self._device.record("compute"))
        return piece

    def _begin(self) -> None:
        for number in self._outside:
            self._fetch(number)
            self._binding.bind(number)
        self._look_ahead(None)
        for number in self._blocks:
            self._watch_batch(number)
        first = self._master.first  # ``module.device`` asks the first parameter
        if first in self._pieces.offsets:
            self._fetch(first)
            self._arrive(first)
        elif first is not None:
            self._binding.bind(first)
        if self.heedful:
            for number in range(len(self._batches)):
                self._binding.bind(number)

    def _where(self, number: int) -> Place:
        """A change to a block that comes is lost with its place."""
        if number in self._ring:
            return Place(self._through, self._ring.places[number], stays=False)
        piece, offset = self._pieces.offsets[number]
        return Place(self._memory[piece], offset, stays=True)

    def _over(self, place: Place, part: torch.Tensor) -> torch.Tensor:
        _, inside = self._master.places.get(id(part), (0, 0))
        return self._device.bind(place.piece, place.offset + inside, part)

    def _look_ahead(self, current: int | None) -> None:
        """Queue the copies of what runs next, up to the first block whose place is not free yet."""
        start = self._after.get(current, 0)
        last = self._passes + 1 == self._path.passes
        for number in (*self._cycle[start:], *([] if last else self._cycle[:start])):
            if number not in self._ring:
                self._fetch(number)
            elif not self._ring.has(number):
                if not self._ring.free(number, current):
                    return
                self._fetch_through(number, ahead=True)

    def _fetch(self, number: int) -> None:
        """Queue a batch that stays, if it is not there yet."""
        if number in self._absent:
            self._absent.remove(number)
            piece, offset = self._pieces.offsets[number]
            self._copy(number, self._memory[piece], offset)

    def _fetch_through(self, number: int, *, ahead: bool) -> None:
        """Queue a block into its place in the ring, once whoever ran there is done."""
        if self._done is not None:
            self._device.wait("copy", self._done)
            self._done = None
        for other in self._ring.take(number, ahead=ahead):
            self._coming.pop(other, None)
            if not self.heedful and other != self._master.first:
                self._binding.unbind(other)
        self._copy(number, self._through, self._ring.places[number])

    def _copy(self, number: int, piece: Any, offset: int) -> None:
        batch = self._batches[number]
        for place, source in batch.copies:
            self._device.copy(piece, offset + place - batch.base, source)
        self._coming[number] = self._device.record("copy")
        self._moved(batch.nbytes)

    def _arrive(self, number: int) -> None:
        """The compute lane waits for a batch that is on its way, and it is bound."""
        event = self._coming.pop(number, None)
        if event is None and number in self._binding:
            return
        if event is not None:
            self._device.wait("compute", event)
        with torch.inference_mode(False), torch.no_grad():
            self._binding.bind(number)

    def _learn(self) -> None:
        """What ran last time will run so again; what did not run is not brought before it is called."""
        seen, self._seen = list(self._seen), {}
        self._clock.stop()
        self._master.seconds |= self._clock.read()
        if not seen:
            return
        self._passes += 1
        self._path.entries |= {number: tuple(modules) for number, modules in self._entered.items()}
        self._entered = {}
        comes = self._ring.places.keys()
        known = self._master.seconds.keys() >= {*seen}
        self._clock.running = self._passes == 1 and bool(comes) and not known
        if not self._thin:
            self._path.order = seen
            self._route()
        if self._thin and self._surprised:
            self._rewatch({*self._blocks})
        elif self._passes > 1 and not (self._thin or self._surprised or self.heedful):
            followers = {b for a, b in zip(seen, (*seen[1:], seen[0]), strict=True) if a in comes}
            self._rewatch(followers | comes)
        self._surprised = False

    def _route(self) -> None:
        """What is brought, in order, and where in it each block stands."""
        order = self._path.order or self._blocks
        self._cycle = [n for n in order if n in self._ring or n in self._absent]
        self._after: dict[int | None, int] = {}
        at = 0
        for number in order:
            at += number in self._ring or number in self._absent
            self._after[number] = at

    def _rewatch(self, wanted: Set[int]) -> None:
        """Hooks on the blocks ``wanted`` and no others: each costs its part of every forward."""
        self._thin = len(wanted) < len(self._blocks)
        for number in self._blocks:
            if number in wanted or number == self._master.first:
                self._watch_batch(number)
            else:
                self._watch.forget(number)

    def _watch_batch(self, number: int) -> None:
        """Hooks on the modules through which the batch was entered; on all of them before that is known."""
        self._watch.forget(number)
        batch = self._batches[number]
        owners = batch.group.owners
        if number in self._path.entries and not self.heedful and number != self._master.first:
            owners = tuple({*batch.entries, *self._path.entries[number]})
        if compiled(batch.group.root):
            owners = (batch.group.root,)
        self._watch.set(number, owners, self.turn)
        self._watch.set(number, batch.borrowers, self.need)

    def _forget_settled(self, number: int) -> None:
        """Where nothing comes and goes, what is there needs no hook any more."""
        if not self._ring.places:
            self._watch.forget(number)

    def _stop(self) -> int:
        self._part()
        changed = self._binding.undo()
        self._give(self._memory)
        self._memory = []
        return changed

    def _part(self) -> None:
        """Nobody runs any more, and nothing is on its way. For its own copies alone: whoever comes next may
        have some already."""
        self._learn()
        self._path.passes = self._passes
        self._watch.clear()
        for event in self._coming.values():
            self._device.wait("compute", event)
        self._coming.clear()

    def _give(self, pieces: list[Any]) -> None:
        """These, and the ring."""
        for piece in (*pieces, *([] if self._through is None else [self._through])):
            self._device.free(piece)
        self._through = None
