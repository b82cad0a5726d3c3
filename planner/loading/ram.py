"""Is there host memory for a plan's pipeline, before any of its weights is read."""

from __future__ import annotations

from collections.abc import Iterator

from planner.diagnostics.diagnostic import Diagnostic
from planner.loading.paths import beside
from planner.plan.model import Plan
from planner.quantization.sizes import sized
from planner.schedule.fit import host_findings
from planner.session.ram import short_of_memory
from planner.target.find import find_target


def check_ram(plan: Plan) -> Iterator[Diagnostic]:
    """More weights than ``budget.ram``, or than the machine has. What is not known counts nothing: hub ids,
    single files, components whose rules take what no header tells."""
    pipeline = plan.pipeline
    target, _ = find_target(
        pipeline.cls,
        pipeline.source,
        dtype=pipeline.dtype,
        variant=pipeline.variant,
        revision=pipeline.revision,
        requires=plan.requires.get("diffusers"),
        relative_to=beside(plan, ""),
        sources={name: said.source for name, said in plan.components.items() if said.source is not None},
    )
    if target is not None:
        sizes = [info.bytes for info in sized(plan, target).components.values() if info.present]
        yield from host_findings(plan, sizes)
        yield from short_of_memory(plan, sum(size or 0 for size in sizes))
