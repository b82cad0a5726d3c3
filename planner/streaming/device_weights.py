"""A component's weights on the device while it is in use: all of them, or a part and the other blocks just in
time.

Some may come early, while another component still runs; ``complete`` then fetches the rest.

Copies are queued block by block in the order in which the blocks ran last time (``planner.graph.stepping``),
and a block's tensors are bound when it begins. A block that is not there when it is called (another order, a
block called by itself) is fetched then, and everything is right, only slower.

Once they are known, only the modules through which a forward enters a block are hooked, and then only those
of the blocks that come. Code that reaches into a block past them finds the host's tensors and fails, rather
than reading what lies there; then, and where that could not be seen, every module is hooked
(``hook_every_module``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

import torch

from planner.device.protocol import Device, Piece
from planner.graph.pieces import Pieces
from planner.graph.ring import Ring
from planner.graph.split import Split
from planner.graph.stepping import Stepper
from planner.host.layout import Block, HostWeights, Path
from planner.streaming.apart import Apart
from planner.streaming.binding import Binding, Place
from planner.streaming.watch import Timer, Watch
from planner.target.blocks import compiled


class DeviceWeights:
    """One component on the device, until ``release``.

    Invariants:
    - every piece of device memory that it has is in ``_owned`` from before it gets memory until it is freed
      or abandoned; ``_memory`` are those that hold what stays, in the order of ``_pieces.sizes``,
      ``_ring_piece`` the ring;
    - a block's bytes on the device are those of the host tensors at the versions in ``_versions`` (``stale``
      compares), unless its copy was never queued (``_stepper.missing``) or it is not in the ring;
    - what others refer to is neither overwritten nor freed: its piece is abandoned, and another one taken;
    - ``changing`` is set while any of this does not hold: then, after an exception, ``release`` is what is
      left."""

    def __init__(
        self,
        host: HostWeights,
        device: Device,
        label: str,
        split: Split | None,
        moved: Callable[[int], None],
        *,
        entry: str = "",
        every_module: bool = False,
        stays: bool = False,
        early: int | None = None,
        grain: int = 0,
    ) -> None:
        """Has nothing on the device yet: ``begin`` queues the first copies. ``moved`` is told of every copy's
        bytes; ``split`` None: all of it stays; ``entry``: through which it is going to run; ``stays``:
        between calls too; ``early``: at most so many bytes come at first; ``grain``: bytes of the pieces that
        ``shed`` gives, 0: it never has to."""
        self.partial = True
        """Not all of it has a place yet."""
        self.changing = False
        self.every_module = every_module
        self._device = device
        self._moved = moved
        self._host = host
        self._blocks: tuple[Block, ...] = host.blocks
        self._outside = [n for n, b in enumerate(self._blocks) if b.group.root is None or b.compiled]
        """Waited for before a forward: what lies outside of the blocks, and what compiled ones borrow."""
        self._inside = [n for n, b in enumerate(self._blocks) if b.group.root is not None]
        self._entry = entry
        self._path = host.paths.setdefault(entry, Path())
        self._early = early
        ring = self._ring_of(split)
        whole = sum(block.nbytes for block in self._blocks)
        cuts = [*(range(grain, whole, grain) if grain else ()), *([] if early is None else [early])]
        stay = (n for n in range(len(self._blocks)) if n not in ring)
        fixed_first = sorted(stay, key=lambda n: self._blocks[n].leaves)
        self._pieces = Pieces(((n, self._blocks[n].nbytes) for n in fixed_first), cuts)
        self._stepper = Stepper(ring, self)
        self._stepper.missing = set(self._pieces.offsets)
        self._follow()
        self._binding = Binding(host, device, self._where, self._over, stays=stays)
        self._apart = Apart(host.apart, device.name)
        self._watch = Watch()
        self._timer = Timer(device)
        self._coming: dict[int, Any] = {}
        self._unrecorded = False
        """Whether copies are queued that no event of ``_coming`` tells of: one was interrupted."""
        self._settled: bool | None = None
        """What stays is bound and waited for, with gradients or without; None: it may not be."""
        self._versions: dict[int, list[int]] = {}
        self._regions: dict[int, int] = {}
        """Blocks by the storage of their tensors on the device."""
        self._done: Any = None
        """An event after the blocks that have run, while no copy has waited for it."""
        self._seen: dict[int, None] = {}
        self._entered: dict[int, dict[torch.nn.Module, None]] = {}
        self._passes = 0
        self._thin = False
        """Whether only the blocks that come are hooked, and those that run after one of them."""
        self._surprised = False
        self._label = label
        self._owned: list[Piece] = []
        self._memory: list[Piece] = []
        self._ring_piece: Any = None

    # -- coming and leaving

    def begin(self) -> None:
        """The first copies are queued. Raises torch's OutOfMemoryError; then ``release`` is due."""
        self.changing = True
        if self._early is None:
            self.complete()
        else:
            with torch.inference_mode(False), torch.no_grad():
                for piece, size in enumerate(self._pieces.sizes[: self._pieces.within(self._early)]):
                    self._memory.append(self._take(size))
                    for index in self._pieces.inside(piece):  # on their way while the next is taken
                        self._stepper.fetch(index)
        self.changing = False

    def complete(self) -> None:
        """All of it gets its place, and the copies are queued. Raises torch's OutOfMemoryError with what was
        there as it was."""
        changing, self.changing = self.changing, True
        ring = self._stepper.ring.room
        with torch.inference_mode(False), torch.no_grad():
            taken: list[Piece] = []
            try:
                for size in (*self._pieces.sizes[len(self._memory) :], *([ring] if ring else [])):
                    taken.append(self._take(size))
            except torch.OutOfMemoryError:
                for piece in taken:
                    self._free(piece)
                self.changing = changing
                raise
            if ring:
                self._ring_piece = taken.pop()
            self._memory += taken
            self.partial = False
            self._start()
        self.changing = changing

    def shed(self, nbytes: int) -> None:
        """So many bytes leave, as far as they go in whole pieces: the ring, then what runs last. ``complete``
        fetches them again."""
        core = self._pieces.left(len(self._memory), nbytes - self._stepper.ring.room)
        if core < len(self._memory) or self._stepper.ring.places:
            self._withdraw(core)
            self._follow()

    def grows(self, split: Split | None) -> bool:
        """Whether more of it would stay by ``split``, and all that stays now."""
        return self._ring_of(split).places.keys() < self._stepper.ring.places.keys()

    def grow(self, split: Split | None) -> None:
        """More of it stays, as by ``split``, once ``complete`` has fetched it."""
        self._withdraw(len(self._memory))
        before, ring = self._stepper.ring, self._ring_of(split)
        more = [index for index in before.places if index not in ring]
        self._pieces.add((index, self._blocks[index].nbytes) for index in more)
        self._stepper.ring = ring
        self._stepper.missing.update(more)
        self._follow()

    def release(self) -> None:
        """Binds the host's tensors again and frees the device's memory. What was changed there has come home
        first. May be called again after an interruption, at any time."""
        self.changing, self._settled = True, None
        with torch.inference_mode(False), torch.no_grad():
            self._stop()
            self._binding.unbind_all()
            self._apart.release()
            for piece in [*self._owned]:
                self._give(piece)
            self._memory, self._ring_piece = [], None
            self._host.seconds |= self._timer.read(wait=True)

    # -- in use

    def start_forward(self, entry: str, *, gradients: bool = False) -> None:
        """A forward begins through ``entry``: the last one is over, what lies outside of the blocks is waited
        for. ``gradients``: they go to the host's tensors."""
        self.changing = True
        self._learn()
        if gradients is not self._binding.gradients:
            self._binding.gradients = gradients
            self._rewatch({*self._inside})
            if self.every_module:
                self._bind_everything()
        if entry != self._entry:
            self._entry, self._path = entry, self._host.paths.setdefault(entry, Path())
            self._passes = 0
            self._follow()
            self._rewatch({*self._inside})
        for index in self._outside:
            self.arrive(index)
        self.changing = False

    def bind_again(self) -> None:
        """As ``Binding.bind_again``."""
        with torch.inference_mode(False), torch.no_grad():
            self._binding.bind_again()

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        if self._settled is self._binding.gradients:
            return
        self.changing = True
        with torch.inference_mode(False), torch.no_grad():
            for index in sorted(self._stepper.missing):
                self._stepper.fetch(index)
            for index in self._pieces.offsets:
                self.arrive(index)
                self._unhook_settled(index)
        self._settled = self._binding.gradients
        self.changing = False

    def hook_every_module(self) -> None:
        """From now on every module is hooked, and everything is bound: nothing says what will be called."""
        self.settle()
        if not self.every_module:
            self.every_module = True
            with torch.inference_mode(False), torch.no_grad():
                for index in self._stepper.ring.places:
                    self._hook(index)
                    self._binding.bind(index)

    def stale(self, *, thoroughly: bool) -> bool:
        """Whether host tensors were written since they were copied; ``thoroughly``: or the device's replaced,
        cast or moved since they were bound, or the copies of what could not be laid out are not there."""
        ring, missing = self._stepper.ring, self._stepper.missing
        for index, versions in self._versions.items():
            there = ring.has(index) if index in ring else index not in missing
            if there and self._blocks[index].versions() != versions:
                return True
        return thoroughly and not (
            self._binding.gradients or (self._binding.intact() and self._apart.intact())
        )

    def weights_in(self, tensor: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The host's tensors that lie in the storage of a tensor on the device, each with the device's."""
        storage = self._device.storage_of(tensor)
        if (index := self._regions.get(storage)) is not None:
            for host, own in self._binding.weights(index):
                if self._device.storage_of(own) == storage:  # not another one at the same address by now
                    yield host, own

    @property
    def gradients(self) -> bool:
        """Whether what is bound passes gradients on to the host's tensors."""
        return self._binding.gradients

    @property
    def nbytes(self) -> int:
        """Bytes that are held for it now."""
        ring = self._stepper.ring.room if self._ring_piece is not None else 0
        return sum(self._pieces.sizes[: len(self._memory)]) + ring

    @property
    def full(self) -> int:
        """Bytes that it holds once it is complete."""
        return self._pieces.nbytes + self._stepper.ring.room

    @property
    def stays(self) -> set[int]:
        """The blocks that stay, by their index among those that may leave."""
        free = [n for n, block in enumerate(self._blocks) if block.leaves]
        return {at for at, index in enumerate(free) if index not in self._stepper.ring}

    # -- what the hooks call

    def turn(self, index: int, module: torch.nn.Module) -> None:
        """``module`` of a block is about to run."""
        if index == self._stepper.current:
            return
        self.changing = True
        self._entered.setdefault(index, {})[module] = None
        self._seen[index] = None
        self._timer.stop()
        with torch.inference_mode(False), torch.no_grad():
            self._surprised |= self._stepper.turn(index, wrap=self._passes + 1 != self._path.passes)
            self._unhook_settled(index)
        self._timer.start(index)
        self.changing = False

    def need(self, index: int, module: torch.nn.Module) -> None:
        """``module`` of another block is about to read a tensor of a block that stays."""
        self.changing = True
        with torch.inference_mode(False), torch.no_grad():
            self._stepper.fetch(index)
            self.arrive(index)
        self.changing = False

    # -- what the stepper asks

    def ran(self) -> None:
        """As ``Lanes.ran``."""
        self._done = self._device.record("compute")

    def fetch(self, index: int) -> None:
        """As ``Lanes.fetch``."""
        piece, offset = self._pieces.offsets[index]
        self._copy(index, self._memory[piece], offset)

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        """As ``Lanes.fetch_into_ring``."""
        self._unrecorded = True  # what is popped may still be on its way
        for other in (*overwritten, index):
            self._coming.pop(other, None)
            self._binding.unbind(other)
        if any(map(self._binding.referenced, overwritten)):
            self._replace_ring(index)
        if self._done is not None:
            self._device.wait("copy", self._done)
            self._done = None
        self._copy(index, self._ring_piece, self._stepper.ring.places[index])
        for other in (*overwritten, index):
            if self.every_module or other == self._host.first:
                self._binding.bind(other)

    def arrive(self, index: int) -> None:
        """As ``Lanes.arrive``; and the block is bound."""
        event = self._coming.get(index)
        if event is None and index in self._binding:
            return
        if event is not None:
            self._device.wait("compute", event)
            self._coming.pop(index, None)
        with torch.inference_mode(False), torch.no_grad():
            self._binding.bind(index)

    def _replace_ring(self, index: int) -> None:
        """Others refer to what the ring holds: it is theirs, and a new one takes its place."""
        ring, piece = self._stepper.ring, self._ring_piece
        for event in self._coming.values():
            self._device.wait("compute", event)
        self._coming.clear()
        for other in ring.places:
            if other != self._stepper.current:
                self._binding.unbind(other)
        self._ring_piece = None
        self._give(piece, referenced=True)
        ring.clear()
        ring.take(index, ahead=index != self._stepper.current)
        self._ring_piece = self._take(ring.room)
        self._done = None

    # -- inside

    def _ring_of(self, split: Split | None) -> Ring:
        """For the blocks that come, in the order in which they ran last time."""
        free = [n for n, block in enumerate(self._blocks) if block.leaves]
        stay = (True,) * len(free) if split is None else split.stay
        comes = {n for n, stays in zip(free, stay, strict=True) if not stays}
        order = [n for n in dict.fromkeys((*self._path.order, *self._inside)) if n in comes]
        return Ring({n: self._blocks[n].nbytes for n in order}, 0 if split is None else split.buffer)

    def _take(self, nbytes: int) -> Piece:
        piece: Piece = self._device.alloc(nbytes, self._label, self._owned)
        # The memory may still be read by kernels queued before it was given back.
        self._device.wait("copy", self._device.record("compute"))
        return piece

    def _free(self, piece: Piece) -> None:
        if not piece.freed:
            self._device.free(piece)
        if piece in self._owned:
            self._owned.remove(piece)

    def _give(self, piece: Piece, *, referenced: bool = False) -> None:
        """Frees a piece that nothing is bound over, or abandons it to those who refer to it."""
        inside = [index for index, known in self._host.made.items() if known.place.piece is piece]
        if referenced or (not piece.freed and any(map(self._binding.referenced, inside))):
            self._binding.forget(piece)
            self._device.abandon(piece)
            if piece in self._owned:
                self._owned.remove(piece)
            return
        if not piece.lasting:
            self._binding.forget(piece)
        self._free(piece)

    def _start(self) -> None:
        self._settled = None
        for index in self._outside:
            self._stepper.fetch(index)
            self._binding.bind(index)
        self._apart.bind()
        self._stepper.look_ahead()
        for index in self._inside:
            self._hook(index)
        first = self._host.first  # ``module.device`` asks the first parameter
        if first in self._pieces.offsets:
            self._stepper.fetch(first)
            self.arrive(first)
        elif first is not None:
            self._binding.bind(first)
        if self.every_module:
            self._bind_everything()

    def _bind_everything(self) -> None:
        for index in range(len(self._blocks)):
            self._binding.bind(index)

    def _where(self, index: int) -> Place:
        if index in self._stepper.ring:
            piece, offset = self._ring_piece, self._stepper.ring.places[index]
        else:
            number, offset = self._pieces.offsets[index]
            piece = self._memory[number]
        return Place(piece, (offset, offset + self._blocks[index].nbytes, index))

    def _over(self, place: Place, part: torch.Tensor) -> torch.Tensor:
        index, inside = self._host.places.get(id(part), (None, 0))
        made = self._device.bind(place.piece, place.offset + inside, part, place.region)
        if index is not None:
            self._regions[self._device.storage_of(made)] = index
        return made

    def _copy(self, index: int, piece: Piece, offset: int) -> None:
        block = self._blocks[index]
        self._versions[index] = block.versions()
        self._unrecorded = True
        for place, source in block.copies:
            self._device.copy(piece, offset + place - block.base, source)
        self._coming[index] = self._device.record("copy")
        self._unrecorded = False
        self._moved(block.nbytes)

    def _learn(self) -> None:
        """What ran last time will run so again; what did not run is not fetched before it is called."""
        seen, self._seen = [*self._seen], {}
        self._timer.stop()
        self._host.seconds |= self._timer.read()
        if not seen:
            return
        self._passes += 1
        self._path.entries |= {index: tuple(modules) for index, modules in self._entered.items()}
        self._entered = {}
        comes = self._stepper.ring.places.keys()
        known = self._host.seconds.keys() >= {*seen}
        self._timer.running = self._passes == 1 and bool(comes) and not known
        if not self._thin:
            self._path.order = seen
            self._follow()
        if self._thin and self._surprised:
            self._rewatch({*self._inside})
        elif self._passes > 1 and not (self._thin or self._surprised or self.every_module):
            followers = {b for a, b in zip(seen, (*seen[1:], seen[0]), strict=True) if a in comes}
            self._rewatch(followers | comes)
        self._surprised = False

    def _follow(self) -> None:
        self._stepper.follow(self._path.order or self._inside)

    def _rewatch(self, wanted: Set[int]) -> None:
        """Hooks on the blocks ``wanted`` and no others: each costs its part of every forward."""
        self._settled = None
        self._thin = len(wanted) < len(self._inside)
        for index in self._inside:
            if index in wanted or index == self._host.first:
                self._hook(index)
            else:
                self._watch.forget(index)

    def _hook(self, index: int) -> None:
        """Hooks on the modules through which the block was entered; on all of them before that is known."""
        self._watch.forget(index)
        block = self._blocks[index]
        owners = block.group.owners
        if index in self._path.entries and not self.every_module and index != self._host.first:
            owners = tuple({*block.entries, *self._path.entries[index]})
        if compiled(block.group.root):
            owners = (block.group.root,)
        self._watch.set(index, owners, self.turn)
        self._watch.set(index, block.borrowers, self.need)

    def _unhook_settled(self, index: int) -> None:
        """Where nothing comes and goes, what is there needs no hook any more."""
        if not self._stepper.ring.places:
            self._watch.forget(index)

    def _withdraw(self, core: int) -> None:
        """The first ``core`` pieces stay, and nothing that comes."""
        self.changing, self._settled = True, None
        gone = self._pieces.after(core)
        ring = self._stepper.ring
        with torch.inference_mode(False), torch.no_grad():
            self._stop()
            for index in (*gone, *ring.places):
                self._binding.unbind(index)
            leaving = [*self._memory[core:], *([] if self._ring_piece is None else [self._ring_piece])]
            self._memory, self._ring_piece = self._memory[:core], None
            self._stepper.missing |= gone
            ring.clear()
            for piece in leaving:
                self._give(piece)
        self._passes, self._thin = 0, False
        self._done = self._stepper.current = None
        self.partial = True
        self.changing = False

    def _stop(self) -> None:
        """It does not run any more, and nothing is on its way. Only its own copies are waited for: the next
        component may have some on the way already."""
        self._learn()
        self._path.passes = self._passes
        self._watch.clear()
        if self._unrecorded:
            self._device.wait("compute", self._device.record("copy"))
            self._unrecorded = False
        for index, event in [*self._coming.items()]:
            self._device.wait("compute", event)
            self._coming.pop(index, None)
