"""From a traced call to what each component's activations take beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.graph.activations import Activations, Predicted
from planner.predict.allocator import LARGE_SEGMENT, SMALL_SEGMENT
from planner.predict.profile import CallProfile
from planner.predict.same import remembered


@remembered
def activations_of(call: CallProfile) -> Predicted:
    """The most that any use of each component takes: what libraries keep, what the pipeline itself has on the
    device then, the inputs among it, and what the use takes. Reserved: what is held lies in whole
    pages of torch's allocator, beside those of the use."""
    found: dict[str, Activations] = {}
    held_at: dict[int, int] = {}
    for turn in call.turns:
        held_at[turn.use] = max(held_at.get(turn.use, 0), turn.held)
    for number, most in held_at.items():
        use = call.uses[number]
        kept = max(most, use.inputs)
        held, pages = call.workspace + kept, _pages(call.workspace) + _pages(kept) + SMALL_SEGMENT
        before = found.get(use.component, Activations(0, 0))
        found[use.component] = Activations(
            max(before.reserved, pages + max(use.room, use.peak()), call.rooms[use.component]),
            max(before.needed, held + use.peak(scratch=False)),
        )
    return found


@dataclass(frozen=True, slots=True)
class Expected:
    """Bytes that torch's allocator must be let have while a component runs, when the use of it that is first
    in a call has this ``signature``."""

    nbytes: int
    signature: str


@remembered
def expectations(call: CallProfile) -> Mapping[str, Expected]:
    """By component."""
    first: dict[str, str] = {}
    for turn in call.turns:
        first.setdefault(call.uses[turn.use].component, call.uses[turn.use].signature)
    return {name: Expected(one.reserved, first[name]) for name, one in activations_of(call).items()}


def _pages(nbytes: int) -> int:
    return -(-nbytes // LARGE_SEGMENT) * LARGE_SEGMENT
