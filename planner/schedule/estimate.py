"""What activations take beside the weights: learned from each call, kept free for the next.

A budget is about what the driver shows, weights and activations together. The compiler sets a share of it
aside because it cannot know; the runtime sees what torch's allocator held while a component ran, and lets
more weights stay, or fewer.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

SLACK = 256
"""One of so many bytes of the budget is left free beside what activations took last time: torch asks for a
whole allocation where a part of it would do, and each of ``PIECES`` wastes a part of a page."""

OURS = 512 << 20
"""Bytes that a process's context may grow by; what grows by more is not its."""

PIECES = 16
"""In so many pieces, and one more, lies a component as large as the budget. Each ends inside a page of 2 MiB,
the rest of which is wasted."""


class Memory(Protocol):
    """What is asked of a device, or of its model: as in ``planner.device.protocol.Device``, which cannot be
    made from this one, since the virtual device may know nothing of the compiler."""

    @property
    def own(self) -> int:
        """See there."""

    @property
    def abandoned(self) -> int:
        """See there."""

    def allocator_reserved(self) -> int:
        """See there."""

    def beyond(self) -> int:
        """See there."""

    def oom_count(self) -> int:
        """See there."""

    def retry_count(self) -> int:
        """See there."""

    def cap(self, nbytes: int | None) -> bool:
        """See there."""


class ActivationEstimate:
    """Of each component of one device. ``budget``: bytes for weights and activations, None for no limit."""

    def __init__(self, device: Memory, budget: int | None) -> None:
        """Caps the device, where it can be."""
        self.capped = budget is not None and device.cap(budget)
        self._device = device
        self._whole = self._budget = budget or 0
        """``_budget`` is ``_whole`` less what the context outgrew, and only becomes less."""
        self._overhead: int | None = None
        self._others = 0
        """Bytes of other processes on the device."""
        self._known: dict[Hashable, int] = {}
        self._seen: dict[Hashable, int] = {}
        self._ran: set[tuple[Hashable, str]] = set()
        """Of ``_seen``: through which entry points."""
        self._expected: dict[Hashable, int] = {}
        """Nothing below it is learned: a prediction has what torch asks for, which is more than it takes."""
        self._like: dict[Hashable, Hashable] = {}
        self._used: dict[Hashable, Hashable] = {}
        """By component, what its first use was like in the calls of which ``_known`` and ``_seen`` tell."""
        self._runs: Hashable = None
        self._mixed = False
        """Whether the activations of what runs lie among those of others that are still held."""
        self._held = 0
        """What there was of those."""
        self._refused = 0
        self._retried = 0

    def expect(self, component: Hashable, nbytes: int, signature: Hashable) -> None:
        """Before it ever ran: ``component`` is predicted to take so many bytes in a use of this
        ``signature``. What was seen of it is not overwritten."""
        if component not in self._known:
            self._known[component] = self._expected[component] = nbytes
            self._like[component] = signature

    def watch(self, overhead: int) -> None:
        """What the driver shows beside weights and activations is to be ``overhead`` bytes, which the budget
        is without. Kernels that are loaded take more as calls go on, up to 0.2 GiB more than was thought for
        pipelines that nobody had measured: the budget shrinks by that, so that the user's limit holds."""
        self._overhead = overhead
        beyond = self._device.beyond()
        self._others = 0 if beyond <= overhead + OURS else beyond - overhead
        self._shrink()

    def _shrink(self) -> None:
        """The budget is what ``overhead`` has not outgrown. Growth of more than ``OURS`` is another
        process's."""
        if not self.capped or self._overhead is None:
            return
        excess = self._device.beyond() - self._others - self._overhead
        if excess > OURS:
            self._others += excess
        elif (budget := self._whole - max(0, excess)) < self._budget:
            self._budget = budget
            self._device.cap(budget)

    def begin(self) -> None:
        """A call begins."""
        self._shrink()
        self._seen, self._used = {}, {}
        self._ran.clear()
        self._runs = None
        if self.capped:
            self._refused, self._retried = self._device.oom_count(), self._device.retry_count()

    def enter(self, component: Hashable, entry: str, incoming: int) -> bool:
        """``component`` is about to run, with ``incoming`` more bytes of weights. Whether it needs what
        others' activations left in torch's allocator, or has yet to show what its own are."""
        if not self.capped or component == self._runs:
            return False
        self._learn(self._runs)
        self._runs = component
        self._shrink()
        known = self._took(component, entry)
        room = self._budget - self._device.own - incoming
        # Not the larger of the two: a tensor that still lives keeps what is free in pieces.
        self._held = self._device.allocator_reserved()
        self._mixed = known is not None and known + self._held <= room
        return not self._mixed

    def observe(self, component: Hashable, entry: str) -> bool:
        """``component`` ran: what lies beside the weights now is what it took. True when it would have taken
        more: a library asked in vain and did with less (cuDNN: an algorithm that rounds otherwise)."""
        if not self.capped:
            return False
        self._ran.add((component, entry))
        self._learn(component)
        before, self._refused = self._refused, self._device.oom_count()
        if self._refused > before:
            self._seen[component] += self._budget // 8
        return self._refused > before

    def _learn(self, component: Hashable) -> None:
        """What lies beside the weights now is what ``component`` took, which ran last, or the pipeline's own
        code after it."""
        if component is None:
            return
        known, held = self._known.get(component, 0), self._device.allocator_reserved()
        took = max(known, held - self._held) if self._mixed else held
        retried, self._retried = self._retried, self._device.retry_count()
        if self._retried > retried:  # it once filled what there was: all that, or what is known to do
            took = max(took, self._known.get(component, self._budget - self._device.own))
        took = max(took, self._expected.get(component, 0))
        self._seen[component] = max(self._seen.get(component, 0), took)

    def end(self) -> None:
        """The call is over: the next one expects what this one took."""
        if self.capped:
            self._learn(self._runs)
        self._known |= self._seen
        self._like |= self._used

    def reserve(self, component: Hashable, signature: Hashable) -> int | None:
        """Bytes that torch's allocator may come to hold while ``component`` runs, the first time in a call;
        None where that had not this ``signature`` when it was in use last, and nobody knows."""
        self._used[component] = signature
        need = self.need(component) if self._like.get(component) == signature else None
        return None if need is None else need + self._device.allocator_reserved()

    def need(self, component: Hashable) -> int | None:
        """Bytes to leave free while ``component`` runs; None before it ever ran."""
        return self._known[component] + self._budget // SLACK if component in self._known else None

    def shortfall(self, component: Hashable, entry: str, incoming: int, *, spared: bool = False) -> int:
        """Bytes by which ``component``, with ``incoming`` more of weights, would pass the budget. Half of it
        is left for one that has never run: a library that finds too little settles for another kernel for
        good; and three quarters where what leaves for it is ``spared``, until the next call. Where the device
        is not capped, the budget binds weights alone."""
        if not self.capped:
            return max(0, self._device.own + incoming - self._budget) if self._budget else 0
        known = self._took(component, entry)
        unknown = self._budget * 3 // 4 if spared else self._budget // 2
        need = unknown if known is None else known + self._budget // SLACK
        return max(0, self._device.own + incoming + need - self._budget)

    @property
    def grain(self) -> int:
        """Bytes of the pieces in which a component may be evicted; 0 where it never has to be."""
        return self._budget // PIECES if self.capped else 0

    def raise_after_oom(self, component: Hashable) -> None:
        """It ran out of memory: it takes more than was thought, and nobody knows how much."""
        thought = max(self._known.get(component, 0), self._device.allocator_reserved())
        self._known[component] = max(2 * thought, thought + self._budget // 8)
        self._refused = self._device.oom_count()

    def room(self, component: Hashable, room: int | None) -> int | None:
        """Bytes for the weights of ``component`` in the ``room`` that the compiler found for it."""
        abandoned = self._device.abandoned
        if room is None or not (self.capped or abandoned):
            return None
        need = (self.need(component) if self.capped else 0) or 0
        gone = abandoned + self._whole - self._budget
        return max(0, room - need - gone) if need or gone else None

    def _took(self, component: Hashable, entry: str) -> int | None:
        """Bytes in an earlier call, else in this one; None before it ever ran, through this entry point."""
        seen = self._seen.get(component) if (component, entry) in self._ran else None
        return self._known.get(component, seen)
