"""Is there host memory for the weights that are about to be read."""

from __future__ import annotations

from collections.abc import Iterator

from planner.device.ram import available
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_machine import HOST_SHORT
from planner.plan.model import Plan
from planner.schedule.fit import gib


def short_of_memory(plan: Plan, need: int) -> Iterator[Diagnostic]:
    """``need`` bytes are more than the machine has. A plan's own ``budget.ram`` takes the place of that:
    the compiler holds the weights to it."""
    if plan.budget.ram is None and need > (there := available()):
        yield finding(
            HOST_SHORT,
            f"the weights to be read take {gib(need)} of host memory, "
            f"{gib(need - there)} more than the {gib(there)} that are available",
            span=plan.pipeline.spans.get("source", plan.pipeline.span),
            pointer="/pipeline",
            hint="budget.ram says how much there is, where swap makes it more",
        )
