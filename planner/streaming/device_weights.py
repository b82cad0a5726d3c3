"""A component's weights on the device while it is in use: all of them, or a part and the other blocks just in
time.

Some may come early, while another component still runs; ``complete`` then fetches the rest.

Copies are queued block by block in the order in which the blocks ran last time (``planner.graph.stepping``),
and a block's tensors are bound when it begins. A block that is not there when it is called (another order, a
block called by itself) is fetched then, and everything is right, only slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from planner.device.protocol import Device
from planner.graph.pieces import Pieces
from planner.graph.ring import Ring
from planner.graph.split import Split
from planner.graph.stepping import Stepper
from planner.host.layout import HostWeights
from planner.streaming.apart import Apart
from planner.streaming.binding import Binding
from planner.streaming.copies import Copies
from planner.streaming.hooks import Hooks
from planner.streaming.memory import DeviceMemory
from planner.streaming.tensors import DeviceTensors
from planner.streaming.timer import Timer


class DeviceWeights:
    """One component on the device, until ``release``.

    Invariants, beside those of its parts (memory, copies, binding, hooks):
    - a block's bytes on the device are those of the host's tensors as they were when it was copied (``stale``
      compares), unless its copy was never queued (``_stepper.missing``) or it is not in the ring;
    - what others refer to is not overwritten: the ring's memory is theirs then, and another takes its place;
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
        self._host = host
        self._early = early
        self._sizes = {n: block.nbytes for n, block in enumerate(host.blocks)}
        self._outside = [n for n, b in enumerate(host.blocks) if b.group.root is None or b.compiled]
        """Waited for before a forward: what lies outside of the blocks, and what compiled ones borrow."""
        self._hooks = Hooks(host, entry, self.turn, self.need, every_module=every_module)
        self._timer = Timer(device)
        ring, whole = self._ring_of(split), sum(self._sizes.values())
        cuts = [*(range(grain, whole, grain) if grain else ()), *([] if early is None else [early])]
        stay = sorted((n for n in self._sizes if n not in ring), key=lambda n: host.blocks[n].leaves)
        pieces = Pieces(((n, self._sizes[n]) for n in stay), cuts)  # what does not leave comes first
        self._tensors = DeviceTensors(host, device, stays=stays)
        self._memory = DeviceMemory(device, label, self._sizes, pieces, ring, self._tensors)
        self._copies = Copies(host.blocks, device, moved)
        self._binding = Binding(host, self._tensors, self._memory.where)
        self._apart = Apart(host.apart, device.name)
        self._stepper = Stepper(ring, self)
        self._stepper.missing = set(pieces.offsets)
        self._stepper.follow(self._hooks.order)
        self._laid: list[int] | None = None
        """The order in which blocks run by which the ring was laid out; None: maybe by another one."""
        self._settled: bool | None = None
        """What stays is bound and waited for, with gradients or without; None: it may not be."""

    # -- coming and leaving

    def begin(self) -> None:
        """The first copies are queued. Raises torch's OutOfMemoryError; then ``release`` is due."""
        self.changing = True
        if self._early is None:
            self.complete()
        else:
            for _ in range(self._memory.pieces.within(self._early)):
                for index in self._memory.pieces.inside(self._memory.take_next()):
                    self._stepper.fetch(index)  # they are on their way while the next is taken
        self.changing = False

    def complete(self) -> None:
        """All of it gets its place, and the copies are queued. Raises torch's OutOfMemoryError with what was
        there as it was."""
        before, self.changing = self.changing, True
        try:
            self._memory.take_rest()
        except torch.OutOfMemoryError:
            self.changing = before
            raise
        self.partial = False
        self._start()
        self.changing = before

    def shed(self, nbytes: int) -> None:
        """So many bytes leave, as far as they go in whole pieces: the ring, then what runs last. ``complete``
        fetches them again."""
        memory = self._memory
        core = memory.pieces.left(memory.count, nbytes - memory.ring.room)
        if core < memory.count or memory.ring.places:
            self._withdraw(core)
            self._stepper.follow(self._hooks.order)

    def grows(self, split: Split | None) -> bool:
        """Whether more of it would stay by ``split``, and all that stays now."""
        return self._ring_of(split).places.keys() < self._memory.ring.places.keys()

    def grow(self, split: Split | None) -> None:
        """More of it stays, as by ``split``, once ``complete`` has fetched it."""
        self._withdraw(self._memory.count)
        self.changing = True
        before, ring = self._memory.ring, self._ring_of(split)
        more = [index for index in before.places if index not in ring]
        self._memory.pieces.add((index, self._sizes[index]) for index in more)
        self._memory.ring = self._stepper.ring = ring
        self._stepper.missing.update(more)
        self._stepper.follow(self._hooks.order)
        self.changing = False

    def release(self) -> None:
        """Binds the host's tensors again and frees the device's memory. What was changed there has come home
        first. May be called again after an interruption, at any time."""
        self.changing, self._settled = True, None
        self._stop()
        self._binding.unbind_all()
        self._apart.release()
        self._memory.give_all()
        self._host.seconds |= self._timer.read(wait=True)

    # -- in use

    def start_forward(self, entry: str, *, gradients: bool = False) -> None:
        """A forward begins through ``entry``: the last one is over, what lies outside of the blocks is waited
        for. ``gradients``: they go to the host's tensors."""
        self.changing = True
        self._stepper.begin()
        self._learn()
        if gradients is not self._binding.gradients:
            self._binding.gradients, self._settled = gradients, None
            self._hooks.put()
            if self._hooks.every_module:
                self._bind_everything()
        if self._hooks.enter(entry):
            self._settled = None
            self._stepper.follow(self._hooks.order)
        if self._memory.ring.places and self._laid != self._hooks.order:
            self._lay_ring()
        for index in self._outside:
            self.arrive(index)
        self.changing = False

    def bind_again(self) -> None:
        """As ``Binding.bind_again``."""
        self._binding.bind_again()

    def settle(self) -> None:
        """What stays is waited for; what comes is waited for when it runs."""
        if self._settled is self._binding.gradients:
            return
        self.changing = True
        for index in sorted(self._stepper.missing):
            self._stepper.fetch(index)
        for index in self._memory.pieces.offsets:
            self.arrive(index)
            self._unhook_settled(index)
        self._settled = self._binding.gradients
        self.changing = False

    def hook_every_module(self) -> None:
        """From now on every module is hooked, and everything is bound: nothing says what will be called."""
        self.settle()
        if not self._hooks.every_module:
            self._hooks.every_module = True
            for index in self._memory.ring.places:
                self._hooks.hook(index)
                self._binding.bind(index)

    def stale(self, *, thoroughly: bool) -> bool:
        """Whether host tensors were written since they were copied; ``thoroughly``: or the device's replaced,
        cast or moved since they were bound, or the copies of what could not be laid out are not there."""
        there = (*self._memory.ring.there, *self._memory.pieces.offsets.keys() - self._stepper.missing)
        if any(map(self._copies.outdated, there)):
            return True
        return thoroughly and not (
            self._binding.gradients or (self._binding.intact() and self._apart.intact())
        )

    def weights_in(self, tensor: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The host's tensors that lie in the storage of a tensor on the device, each with the device's."""
        return self._tensors.in_storage_of(tensor)

    @property
    def gradients(self) -> bool:
        """Whether what is bound passes gradients on to the host's tensors."""
        return self._binding.gradients

    @property
    def nbytes(self) -> int:
        """Bytes that are held for it now."""
        return self._memory.nbytes

    @property
    def full(self) -> int:
        """Bytes that it holds once it is complete."""
        return self._memory.full

    @property
    def stays(self) -> set[int]:
        """The blocks that stay, by their index among those that may leave."""
        return {at for at, index in enumerate(self._free) if index not in self._memory.ring}

    # -- what the hooks call

    def turn(self, index: int, module: torch.nn.Module) -> None:
        """``module`` of a block is about to run."""
        if index == self._stepper.current:
            return
        self.changing = True
        self._hooks.runs(index, module)
        self._timer.stop()
        if self._stepper.turn(index, wrap=not self._hooks.is_last):
            self._hooks.late()
        self._unhook_settled(index)
        self._timer.start(index)
        self.changing = False

    def need(self, index: int, module: torch.nn.Module) -> None:
        """``module`` of another block is about to read a tensor of a block that stays."""
        self.changing = True
        self._stepper.fetch(index)
        self.arrive(index)
        self.changing = False

    # -- what the stepper asks

    def ran(self) -> None:
        """As ``Lanes.ran``."""
        self._copies.ran()

    def fetch(self, index: int) -> None:
        """As ``Lanes.fetch``."""
        self._copies.queue(index, self._memory.where(index))

    def fetch_into_ring(self, index: int, overwritten: list[int]) -> None:
        """As ``Lanes.fetch_into_ring``."""
        self._copies.are_overwritten((*overwritten, index))
        for other in (*overwritten, index):
            self._binding.unbind(other)
        if any(map(self._tensors.referenced, overwritten)):
            self._replace_ring(index)
        self._copies.queue_over(index, self._memory.where(index))
        for other in (*overwritten, index):
            if self._hooks.every_module or other == self._host.first:
                self._binding.bind(other)

    def arrive(self, index: int) -> None:
        """As ``Lanes.arrive``; and the block is bound."""
        self._copies.arrive(index)
        self._binding.bind(index)

    # -- inside

    def _lay_ring(self) -> None:
        """By the order in which blocks run, which was another one before: what lies in the ring comes again,
        to its new place."""
        before, self._laid = self._memory.ring, self._hooks.order
        ring = before.laid_for(self._laid)
        if ring is before:
            return
        for index in before.places:
            self._binding.unbind(index)
        self._copies.are_overwritten(before.there)
        self._copies.ran()
        if any(map(self._tensors.referenced, before.there)):
            self._copies.arrive_all()
            self._memory.replace_ring()
            self._copies.start_anew()
        self._memory.ring = self._stepper.ring = ring
        for index in ring.places:
            if self._hooks.every_module or index == self._host.first:
                self._binding.bind(index)
        self._stepper.look_ahead()

    def _replace_ring(self, index: int) -> None:
        """Others refer to what the ring holds: it is theirs, and a new one takes its place for ``index``."""
        ring, current = self._memory.ring, self._stepper.current
        self._copies.arrive_all()
        for other in ring.places:
            if other != current:
                self._binding.unbind(other)
        ring.clear()
        ring.take(index)
        self._memory.replace_ring()
        self._copies.start_anew()

    @property
    def _free(self) -> list[int]:
        return [n for n, block in enumerate(self._host.blocks) if block.leaves]

    def _ring_of(self, split: Split | None) -> Ring:
        """For the blocks that come, in the order in which they ran last time."""
        if split is None:
            return Ring({}, 0)
        comes = {n for n, stays in zip(self._free, split.stay, strict=True) if not stays}
        order = [n for n in dict.fromkeys((*self._hooks.order, *self._hooks.inside)) if n in comes]
        return Ring({n: self._sizes[n] for n in order}, split.buffer)

    def _start(self) -> None:
        self._settled = None
        for index in self._outside:
            self._stepper.fetch(index)
            self._binding.bind(index)
        self._apart.bind()
        self._stepper.look_ahead()
        self._hooks.put()
        first = self._host.first  # ``module.device`` asks the first parameter
        if first in self._memory.pieces.offsets:
            self._stepper.fetch(first)
            self.arrive(first)
        elif first is not None:
            self._binding.bind(first)
        if self._hooks.every_module:
            self._bind_everything()

    def _bind_everything(self) -> None:
        for index in self._sizes:
            self._binding.bind(index)

    def _learn(self) -> None:
        """The last forward is over."""
        self._timer.stop()
        self._host.seconds |= self._timer.read()
        before = self._hooks.order
        if seen := self._hooks.learn(comes := self._memory.ring.places.keys()):
            known = self._host.seconds.keys() >= {*seen}
            self._timer.running = self._hooks.passes == 1 and bool(comes) and not known
            if self._hooks.order != before:
                self._stepper.follow(self._hooks.order)

    def _unhook_settled(self, index: int) -> None:
        """Where nothing comes and goes, what is there needs no hook any more."""
        if not self._memory.ring.places:
            self._hooks.forget(index)

    def _withdraw(self, core: int) -> None:
        """The first ``core`` pieces stay, and nothing that comes."""
        self.changing, self._settled = True, None
        self._stop()
        gone = self._memory.pieces.after(core)
        for index in (*gone, *self._memory.ring.places):
            self._binding.unbind(index, thoroughly=True)
        self._stepper.missing |= gone
        self._memory.ring.clear()
        self._memory.give_after(core)
        self._hooks.begin_again()
        self._copies.start_anew()
        self._stepper.restart()
        self.partial = True
        self.changing = False

    def _stop(self) -> None:
        """It does not run any more, and nothing is on its way."""
        self._learn()
        self._hooks.take_off()
        self._copies.arrive_all()
