"""What activations take beside the weights: learned from each call, kept free for the next.

A budget is about what the driver shows, weights and activations together. The compiler sets a share of it
aside because it cannot know; a session sees what torch's allocator held while a component ran, and lets
more weights stay, or fewer.
"""

from __future__ import annotations

from collections.abc import Hashable

from planner.device.protocol import Device

SLACK = 512
"""One of so many bytes of the budget is left free beside what activations took last time: torch asks for a
whole allocation where a part of it would do."""

PIECES = 16
"""In so many, and one more, lies a component as large as the budget. Each ends inside a page of 2 MiB, the
rest of which nobody has."""


class Headroom:
    """``budget``: bytes for weights and activations, None where nothing binds them."""

    def __init__(self, device: Device, budget: int | None) -> None:
        """Caps the device."""
        self.capped = budget is not None and device.cap(budget)
        self._device = device
        self._budget = budget or 0
        self._known: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._like: dict[str, Hashable] = {}
        self._used: dict[str, Hashable] = {}
        """By component, what its first use was like in the calls of which ``_known`` and ``_seen`` tell."""
        self._runs = ""
        self._mixed = False
        """Whether the activations of who runs lie among those of others that are still held."""
        self._refused = 0
        self._retried = 0

    def begin(self) -> None:
        """A call begins."""
        self._seen, self._used = {}, {}
        self._runs = ""
        if self.capped:
            self._refused, self._retried = self._device.refusals(), self._device.retries()

    def enter(self, component: str, incoming: int) -> bool:
        """``component`` is about to run, with ``incoming`` more bytes of weights. Whether it needs what
        others' activations left in torch's allocator, or has yet to show what its own are."""
        if not self.capped or component == self._runs:
            return False
        self._runs = component
        known = self._took(component)
        room = self._budget - self._device.own - incoming
        # Not the larger of the two: a tensor that still lives keeps what is free in pieces.
        self._mixed = known is not None and known + self._device.beside() <= room
        return not self._mixed

    def look(self, component: str) -> bool:
        """``component`` ran: what lies beside the weights now is what it took. True when it would have taken
        more: a library asked in vain and did with less (cuDNN: an algorithm that rounds otherwise)."""
        if not self.capped:
            return False
        took = self._known.get(component, 0) if self._mixed else self._device.beside()
        retried, self._retried = self._retried, self._device.retries()
        if self._retried > retried:  # it once filled what there was: all that, or what is known to do
            took = max(took, self._known.get(component, self._budget - self._device.own))
        self._seen[component] = max(self._seen.get(component, 0), took)
        before, self._refused = self._refused, self._device.refusals()
        if self._refused > before:
            self._seen[component] += self._budget // 8
        return self._refused > before

    def end(self) -> None:
        """The call is over: the next one expects what this one took."""
        self._known |= self._seen
        self._like |= self._used

    def claim(self, component: str, likeness: Hashable) -> int | None:
        """Bytes that torch's allocator may come to hold while ``component`` runs, the first time in a call;
        None where that had not this ``likeness`` when it was in use last, and nobody knows."""
        self._used[component] = likeness
        need = self.need(component) if self._like.get(component) == likeness else None
        return None if need is None else need + self._device.beside()

    def need(self, component: str) -> int | None:
        """Bytes to leave free while ``component`` runs; None before it ever ran."""
        return self._known[component] + self._budget // SLACK if component in self._known else None

    def lack(self, component: str, incoming: int) -> int:
        """Bytes by which ``component``, with ``incoming`` more of weights, would pass the budget. Half of it
        is left to who has never run: a library that finds too little settles for another kernel for good."""
        if not self.capped:
            return 0
        known = self._took(component)
        need = self._budget // 2 if known is None else known + self._budget // SLACK
        return max(0, self._device.own + incoming + need - self._budget)

    @property
    def grain(self) -> int:
        """Bytes of the pieces in which a component may give way; 0 where it never has to."""
        return self._budget // PIECES if self.capped else 0

    def short(self, component: str) -> None:
        """It ran out of memory: it takes more than was thought, and nobody knows how much."""
        thought = max(self._known.get(component, 0), self._device.beside())
        self._known[component] = max(2 * thought, thought + self._budget // 8)
        self._refused = self._device.refusals()

    def room(self, component: str, room: int | None) -> int | None:
        """Bytes for the weights of ``component`` in the ``room`` that the compiler found for it."""
        need = self.need(component)
        return None if room is None or need is None or not self.capped else max(0, room - need)

    def _took(self, component: str) -> int | None:
        """Bytes in an earlier call, else in this one; None before it ever ran."""
        return self._known.get(component, self._seen.get(component))
