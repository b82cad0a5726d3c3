"""What would go wrong with a run's output, found before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, UNKNOWN_OUTPUT
from planner.loading.destination import Destination, output_faults
from planner.loading.kinds import kinds_of
from planner.plan.model import Plan
from planner.plan.run import count

NO_PIXELS = ("latent", "latents")
"""Values of ``output_type`` with which a pipeline returns nothing that can be saved."""


def output_findings(
    plan: Plan, cls: type | None, out: Path | None, report: Path | None, *, force: bool
) -> Iterator[Diagnostic]:
    """Every fault of ``--out`` (a default name in the current folder where there is none), of ``--report``
    and of ``run.output_type``. ``cls``: of the pipeline; None where it is not known yet."""
    kinds = kinds_of(cls) if cls is not None else ()
    form = plan.run.get("output_type", "pil")
    if form in NO_PIXELS:
        pointer = "/run/output_type"
        said = f'a run with output_type "{form}" returns nothing that can be saved: expected pil, np or pt'
        yield finding(UNKNOWN_OUTPUT, said, span=plan.place(pointer), pointer=pointer)
    yield from output_faults(out if out is not None else Path(), kinds, count(plan.run), plan, force=force)
    if report is not None:
        yield from Destination("--report", report, plan, force).faults()
        if out is not None and report.absolute() == out.absolute():
            yield finding(BAD_OUTPUT, f'--out and --report are both "{out}"')
