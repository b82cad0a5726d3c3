"""What activations take of the budget while a component runs: predicted, or a share of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

RESERVE = 0.15
"""Share of the budget that is left to activations which nobody predicted: a component that would leave less
of it streams, and the first call learns how much there really is."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes beside the weights while a component runs: ``reserved``: that torch's allocator must be let have
    for all to go well, and ``needed``: those allocated where libraries do without the scratch that they can
    do without."""

    reserved: int
    needed: int


Predicted = Mapping[str, Activations]
"""By component. Those of which nothing is known are not in it."""


def left_free(predicted: Predicted, component: str, room: int) -> int:
    """Bytes of ``room`` to leave free of weights while ``component`` runs."""
    known = predicted.get(component)
    return int(room * RESERVE) if known is None else known.reserved


def left_free_beside_all(predicted: Predicted, components: Iterable[str], room: int) -> int:
    """The same where the weights of all ``components`` stay, whichever of them runs."""
    return max((left_free(predicted, name, room) for name in components), default=0)


def needed(predicted: Predicted, component: str) -> int:
    """Bytes without which ``component`` cannot run; 0 where nothing is known."""
    known = predicted.get(component)
    return 0 if known is None else known.needed
