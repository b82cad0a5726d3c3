"""What a traced call takes, use by use, as a table."""

from __future__ import annotations

from planner.predict.profile import CallProfile
from planner.report.sheet import Sheet, sheet
from planner.schedule.fit import gib


def uses_table(call: CallProfile) -> Sheet:
    """A row for each distinct use: how often, what the pipeline keeps on the device then, what the use
    allocates beside that and the weights, and how much of it is scratch that libraries can do without."""
    made = sheet("!component", "entry", ">times", ">held", ">activations", ">of it scratch", "~assumed")
    for number, use in enumerate(call.uses):
        turns = [turn for turn in call.turns if turn.use == number]
        peak, least = use.peak(), use.peak(scratch=False)
        made.add(
            use.component,
            use.entry or "forward",
            str(len(turns)),
            gib(max((turn.held for turn in turns), default=0)),
            gib(peak),
            gib(peak - least),
            "; ".join(use.notes),
        )
    return made
