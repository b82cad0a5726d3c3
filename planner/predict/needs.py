"""From a traced call to what each component's activations take beside its weights."""

from __future__ import annotations

from planner.graph.activations import Activations, Predicted
from planner.predict.profile import CallProfile

RESERVED = 1.04
"""Bytes that torch's allocator holds for each that is allocated at the peak of a use, with expandable
segments: 1.01 to 1.04 were measured over the uses of nine pipelines on an H200 with torch 2.11. Without
expandable segments it may be more."""


def activations_of(call: CallProfile) -> Predicted:
    """The most that any use of each component takes: what the pipeline itself keeps on the device then, the
    inputs among it, and what the use allocates."""
    found: dict[str, Activations] = {}
    for turn in call.turns:
        use = call.uses[turn.use]
        held = max(turn.held, use.inputs)
        before = found.get(use.component, Activations(0, 0))
        found[use.component] = Activations(
            max(before.reserved, int((held + use.peak()) * RESERVED)),
            max(before.needed, held + use.peak(scratch=False)),
        )
    return found
