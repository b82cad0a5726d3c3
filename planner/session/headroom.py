"""What activations take beside the weights: learned from each call, kept free for the next.

A budget is about what the driver shows, weights and activations together. The compiler sets a share of it
aside because it cannot know; a session sees what torch's allocator held while a component ran, and lets
more weights stay, or fewer.
"""

from __future__ import annotations

from planner.device.protocol import Device


class Headroom:
    """``budget``: bytes for weights and activations, None where nothing binds them."""

    def __init__(self, device: Device, budget: int | None, *, keep: bool) -> None:
        """``keep``: weights stay between the stages, so the most that any component takes counts for all."""
        self.capped = budget is not None and device.cap(budget)
        self._device = device
        self._budget = budget or 0
        self._keep = keep
        self._known: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._mixed: set[str] = set()
        """Whose activations lie among those of others that are still held."""
        self._refused = 0

    def crowded(self, component: str, incoming: int) -> bool:
        """Whether ``component``, which comes with ``incoming`` more bytes, needs what others' activations
        left in torch's allocator, or has yet to show what its own are."""
        if not self.capped:
            return False
        need, beside = self.need(component), self._device.beside()
        room = self._budget - self._device.own - incoming
        self._mixed.discard(component)
        if need is None or max(need, beside) > room:
            return True
        self._mixed.add(component)
        return False

    def begin(self) -> None:
        """A call begins."""
        self._seen = {}
        self._refused = self._device.refusals() if self.capped else 0

    def look(self, component: str) -> bool:
        """``component`` ran: what lies beside the weights now is what it took. True when it would have taken
        more: a library asked in vain and did with less (cuDNN: an algorithm that rounds otherwise)."""
        if not self.capped:
            return False
        before = self._known.get(component, 0) if component in self._mixed else self._device.beside()
        self._seen[component] = max(self._seen.get(component, 0), before)
        before, self._refused = self._refused, self._device.refusals()
        if self._refused > before:
            self._seen[component] += self._budget // 8
        return self._refused > before

    def end(self) -> None:
        """The call is over: the next one expects what this one took."""
        self._known |= self._seen

    def need(self, component: str) -> int | None:
        """Bytes to leave free while ``component`` runs; None before it ever ran."""
        if component not in self._known:
            return None
        known = max(self._known.values()) if self._keep else self._known[component]
        return known + self._budget // 128

    def short(self, component: str) -> None:
        """It ran out of memory: it takes more than was thought, and nobody knows how much."""
        thought = max(self._known.get(component, 0), self._device.beside())
        self._known[component] = max(2 * thought, thought + self._budget // 8)
        self._refused = self._device.refusals()

    def over(self, component: str, incoming: int) -> bool:
        """Whether ``component`` and ``incoming`` bytes of weights pass the budget, as far as is known."""
        need = self.need(component)
        return self.capped and need is not None and self._device.own + incoming + need > self._budget

    def room(self, component: str, room: int | None) -> int | None:
        """Bytes for the weights of ``component`` in the ``room`` that the compiler found for it."""
        need = self.need(component)
        return None if room is None or need is None or not self.capped else max(0, room - need)
