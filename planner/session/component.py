"""One component of a device: its weights on the host and on the device, and where they are.

States, and what may change them (``_become``, the only place where ``state`` is stored):

    AWAY ──onload──▶ PARTIAL ──onload──▶ RESIDENT ──run──▶ RUNNING
      ▲  └──────────────onload──────────────▶ │ ▲             │
      └──────offload────────┴─────────────────┘ └────stop─────┘

Invariants of the states:
    AWAY      there are no ``DeviceWeights``: every slot of every module holds the host's tensor
    PARTIAL   some of what stays on the device has no memory there yet, or none any more
    RESIDENT  all that stays has memory, and its copies are queued
    RUNNING   as RESIDENT, and a use of it has begun and not ended

Each change is safe to be interrupted anywhere: ``unfinished`` is set before the first step and cleared after
the last one, and ``recover`` offloads a component whose change was not finished."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import COMPILED_WHOLE
from planner.graph.flow import in_room
from planner.graph.model import Placement
from planner.graph.split import Split, split
from planner.host.layout import HostWeights
from planner.plan.model import Policy
from planner.schedule.estimate import ActivationEstimate
from planner.session.casts import Casts, change_of, is_lossless, taken
from planner.session.frames import release_locals
from planner.session.undo import Undo
from planner.streaming.device_weights import DeviceWeights
from planner.target.blocks import compiled

if TYPE_CHECKING:
    from planner.session.applied import Applied


class State(enum.Enum):
    """Where a component's weights are; see the head of this file."""

    AWAY = "away"
    PARTIAL = "partial"
    RESIDENT = "resident"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan wants of a component: ``placement`` as compiled, None for one that the plan's target did
    not have; ``fixed``: it stays between calls."""

    placement: Placement | None
    fixed: bool


class ManagedComponent:
    """Holds no reference that would keep the pipeline alive. ``label`` names its memory in messages."""

    def __init__(
        self,
        module: torch.nn.Module,
        label: str,
        device: Device,
        pins: Pins,
        activations: ActivationEstimate,
        *,
        left_in_place: bool = False,
    ) -> None:
        """Away, on the host. ``left_in_place``: its class forbids that it is moved; it stays where it is."""
        self.label = label
        self.left_in_place = left_in_place
        self.state = State.AWAY
        self.unfinished = False
        self.arrival = 0
        """Which of all arrivals on the device was its last."""
        self.checked: object = None
        """In which ``Applied.epoch`` it was compared with the host."""
        self.placed_by: Applied | None = None
        """Whose wish decided how much of it is on the device."""
        self.undo = Undo()
        """What takes our class and hooks off the component, once no plan has it."""
        self.host: HostWeights | None = None
        self.casts = Casts()
        self.weights: DeviceWeights | None = None
        self.shares = False
        """Whether another component has some of its modules: both bind them, each before it runs."""
        self.every_module = False
        self.being_cast = False
        """Whether a change of dtype is going on, of which its modules' ``_apply`` is a part."""
        self._device = device
        self._pins = pins
        self._activations = activations
        self._chosen: tuple[object, Split | None] | None = None
        self._module = weakref.ref(module)

    @property
    def module(self) -> torch.nn.Module | None:
        """The component, or None when it is gone."""
        return self._module()

    @property
    def on_device(self) -> bool:
        """Whether any of it is."""
        return self.state is not State.AWAY

    @property
    def nbytes(self) -> int | None:
        """Bytes that are held for it on the device; None while it is away."""
        return None if self.weights is None else self.weights.nbytes

    def prepare(self) -> None:
        """Packs and registers its host memory, so that no call has to; again when its tensors are others."""
        module = self.module
        if module is None or self.left_in_place or self.state is not State.AWAY:
            return
        if self.host is None or self.host.stale():
            before, self.host, self._chosen = self.host, None, None
            if not (kept := self.casts.follows(module)):
                self._forget_cast()
            if before is not None:
                self._pins.release(before)
            self.host = HostWeights(module, self._pins)
            if kept:
                self.casts.note(module)

    @property
    def layouts(self) -> Iterator[HostWeights]:
        """Of its weights as they are, and of what is kept of a cast."""
        other = None if self.casts.other is None else self.casts.other.host
        yield from (host for host in (self.host, other) if host is not None)

    def apply(
        self, function: Callable[[torch.Tensor], torch.Tensor], convert: Callable[[], object], *, keep: bool
    ) -> None:
        """``convert`` applies ``function`` to tensors of the component, which is away. ``keep``: to all, and
        what it takes from them may be kept (``planner.session.casts``): not where the plan says how much of
        the host's memory may be registered."""
        module, limited = self.module, self._pins.limit is not None
        change = None if module is None or limited or not keep else change_of(module, function)
        if module is None or change is None:
            self._forget_cast()
            convert()
            return
        before = taken(module)
        found = self.casts.swap(module, before, change, self.host)
        if found is not None:
            self.host, self._chosen = found.host, None
            return
        self._forget_cast()
        convert()
        if is_lossless(change):
            self.casts.keep(module, before, self.host)
            self.host, self._chosen = None, None

    def _forget_cast(self) -> None:
        host = self.casts.forget()
        if host is not None and host is not self.host:
            self._pins.release(host)

    def held(self, wish: Wish) -> int | None:
        """Bytes on the device when it is in use, as it would be onloaded now; None when that is not known."""
        if self.host is None:
            return None
        made = self._split(wish)
        return self.host.nbytes if made is None else made.held

    def incoming(self, wish: Wish, *, may_grow: bool) -> int | None:
        """Bytes that are still to come, for it to run; None when that is not known. ``may_grow``: more of it
        may stay than does now."""
        if self.left_in_place:
            return 0
        if self.weights is None:
            return self.held(wish)
        grown = self.held(wish) if may_grow and self.weights.grows(self._split(wish)) else None
        return (self.weights.full if grown is None else grown) - self.weights.nbytes

    def onload(
        self, wish: Wish, moved: Callable[[int], None], entry: str = "", early: int | None = None
    ) -> None:
        """To the device, to run through ``entry``; ``moved`` is told of the bytes that are copied. ``early``:
        at most so many bytes of it, and the rest when this is called again. Raises torch's OutOfMemoryError
        with the component where it was, and PlanError for one that streams and was compiled whole."""
        module = self.module
        if module is None or self.left_in_place:
            return
        self._drop_unfinished()
        if self.weights is not None:
            self._complete(wish)
            return
        self.prepare()
        assert self.host is not None
        placement = wish.placement
        if placement is not None and placement.policy is Policy.STREAM and compiled(module):
            said = f'component "{self.label}" streams by the plan, and it was compiled whole'
            raise PlanError([finding(COMPILED_WHOLE, said)])
        self.unfinished = True
        self.weights = DeviceWeights(
            self.host,
            self._device,
            self.label,
            self._split(wish),
            moved,
            entry=entry,
            every_module=self.every_module,
            stays=wish.fixed,
            early=early,
            grain=self._activations.grain,
        )
        try:
            self.weights.begin()
        except torch.OutOfMemoryError:
            self.offload()
            raise
        self._become(State.PARTIAL if self.weights.partial else State.RESIDENT)
        self.unfinished = False

    def offload(self) -> None:
        """Away from the device. What was changed there has come home. May be called in any state, and again
        after it was interrupted; in its own forward too, which then fails."""
        self.unfinished = True
        if self.weights is not None:
            release_locals()
            self.weights.release()
            self.weights = None
        self._become(State.AWAY)
        self.placed_by = None
        self.unfinished = False

    def run(self, entry: str, *, gradients: bool = False) -> None:
        """A use begins."""
        self._become(State.RUNNING)
        if self.weights is not None:
            if self.shares:
                self.weights.bind_again()
            self.weights.start_forward(entry, gradients=gradients)

    def stop(self) -> None:
        """Its last use has ended."""
        if self.weights is not None and not self.weights.changing:
            self.weights.settle()
        self.rest()

    def rest(self) -> None:
        """Its last use has ended, whatever happened in it. What cannot be known to be whole is offloaded."""
        if self.weights is not None and (self.weights.changing or self.unfinished):
            self.offload()
        elif self.state is State.RUNNING and self.weights is None:
            self._become(State.AWAY)
        elif self.state is State.RUNNING and self.weights is not None:
            self._become(State.PARTIAL if self.weights.partial else State.RESIDENT)

    def recover(self) -> None:
        """Nothing runs: what was interrupted is finished."""
        self.being_cast = False
        if self.unfinished or (self.weights is not None and self.weights.changing):
            self.offload()
        self.rest()

    def shed(self, nbytes: int) -> None:
        """So many bytes of it leave, as far as it can do without; they come back when it runs."""
        self._drop_unfinished()
        if self.weights is not None and self.state is State.RESIDENT:
            self.unfinished = True
            self.weights.shed(nbytes)
            self._become(State.PARTIAL if self.weights.partial else State.RESIDENT)
            self.unfinished = False

    def hook_every_module(self) -> None:
        """All of its modules are hooked from now on."""
        self.every_module = True
        if self.weights is not None and not self.weights.partial:
            self.weights.hook_every_module()

    def stale(self, *, thoroughly: bool = False) -> bool:
        """Whether what is on the device is not what the host has; ``thoroughly`` as ``DeviceWeights.stale``,
        and whether modules or tensors were put in or taken out."""
        if self.weights is None or self.host is None:
            return False
        return (thoroughly and self.host.rebuilt()) or self.weights.stale(thoroughly=thoroughly)

    def unchanged_by(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Whether ``fn`` would return the device's tensors as they are (``vae.to(dtype=...)`` of the dtype
        that it has already)."""
        blocks = self.host.entries if self.host is not None else []
        dtypes = {host.dtype for entries in blocks for host in entries.hosts}
        probes = [torch.empty(0, dtype=dtype, device=self._device.name) for dtype in dtypes]
        with torch.no_grad():
            return bool(probes) and all(fn(probe) is probe for probe in probes)

    def _drop_unfinished(self) -> None:
        """Nothing is built upon a change that failed half way: another one would hide that it did."""
        if self.unfinished or (self.weights is not None and self.weights.changing):
            self.offload()

    def _complete(self, wish: Wish) -> None:
        """The rest of it comes, and more of it stays where there is room for that by now."""
        assert self.weights is not None
        self.unfinished = True
        if self.weights.grows(made := self._split(wish)):
            self.weights.grow(made)
            self._become(State.PARTIAL)
        if self.weights.partial:
            try:
                self.weights.complete()
            except torch.OutOfMemoryError:
                self.unfinished = self.weights.changing  # or what was there is as it was
                raise
        self._become(State.RESIDENT)
        self.unfinished = False

    def _split(self, wish: Wish) -> Split | None:
        """What of it stays: as planned, or as the activations of the last call allow; made again when its
        weights are no longer those that were planned. None: all of it."""
        placement = wish.placement
        if placement is None or self.host is None:
            return None
        planned, sizes = placement.split, self.host.sizes
        room = self._activations.room(self, placement.room)
        if room is not None:
            known = {n: seconds for n, seconds in placement.pace if n < len(sizes.streamable)}
            pace = self.host.pace() or known
            asked = (room, tuple(pace.items()), placement)
            if self._chosen is None or self._chosen[0] != asked:
                stays = () if self.weights is None else self.weights.stays
                self._chosen = (asked, in_room(placement, sizes, room, pace, stays))
            return self._chosen[1]
        if planned is None or not planned.buffer:
            return None
        if len(planned.stay) == len(sizes.streamable):
            return planned
        return split(sizes, planned.resident, planned.ahead)

    def _become(self, state: State) -> None:
        """The only place where ``state`` is stored."""
        held = self.weights is not None or self.left_in_place
        assert state is State.AWAY or held or self.module is None, f"{self.label} is {state} without weights"
        assert state is not State.AWAY or self.weights is None, f"{self.label} is away and has weights"
        whole = self.weights is None or not self.weights.partial
        assert whole or state in (State.AWAY, State.PARTIAL), f"{self.label} is {state} in part"
        self.state = state
