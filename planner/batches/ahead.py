"""What rows that are to run will take: ``plan batch --dry-run``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import mean, median
from types import MappingProxyType
from typing import Any

from planner.api import activations, compile
from planner.batches.worker import Task
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.graph.activations import Predicted
from planner.plan.model import Plan
from planner.plan.run import COUNTS
from planner.schedule.fit import gib
from planner.schedule.model import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """``peak``: bytes on a device, weights and activations, of ``largest``, the row of the largest shape;
    None where ``found`` says why not. ``seconds`` of all rows and ``disk``, the bytes of their outputs: as
    long and as large as rows of the folder that are finished, None where none is. ``free``: bytes of the
    disk."""

    largest: str
    peak: int | None
    seconds: float | None
    disk: int | None
    free: int
    found: tuple[Diagnostic, ...] = ()

    def __str__(self) -> str:
        peak = f'the largest is "{self.largest}"'
        if self.peak is not None:
            peak += f", at its peak {gib(self.peak)} on the device"
        if self.seconds is None or self.disk is None:
            return f"{peak}; hours and disk are known once a row has run: --limit 1"
        long = f"{self.seconds / 60:.1f} min" if self.seconds < 3600 else f"{self.seconds / 3600:.1f} h"
        return f"{peak}; {long}; {gib(self.disk)} of disk, {gib(self.free)} are free"


def ahead(
    plan: Plan, tasks: Sequence[Task], workers: int, out: Path, done: Sequence[Mapping[str, Any]]
) -> Ahead:
    """Of at least one task; ``done``: records of rows that are finished. Traces a call without data, which
    needs the pipeline's configs on this machine; no weights are read. Raises nothing for what it cannot tell.
    """
    largest = max(tasks, key=_size)
    peak: int | None = None
    found: tuple[Diagnostic, ...] = ()
    try:
        peak = _peak(replace(plan, run=MappingProxyType(dict(largest.run))))
    except PlanError as error:
        found = error.diagnostics
    sizes = [sum((out / name).stat().st_size for name in one["outputs"]) for one in done]
    return Ahead(
        largest=largest.id,
        peak=peak,
        seconds=median(one["seconds"] for one in done) * len(tasks) / workers if done else None,
        disk=round(mean(sizes) * len(tasks)) if done else None,
        free=shutil.disk_usage(_there(out)).free,
        found=found,
    )


def _size(task: Task) -> int:
    """How large the tensors are, for comparing: steps run one after the other."""
    counts = [
        value
        for name, value in task.run.items()
        if COUNTS.fullmatch(name) and not name.endswith("num_inference_steps") and isinstance(value, int)
    ]
    return prod(counts)


def _peak(plan: Plan) -> int | None:
    needs = activations(plan)
    return peak_of(compile(plan, activations=needs).schedule, needs)


def peak_of(schedule: Schedule, needs: Predicted) -> int | None:
    """Bytes on a device at the most, weights and activations; None where sizes are not known."""
    uses = [
        step.after + (needs[step.component].reserved if step.component in needs else 0)
        for step in schedule.steps
        if step.do == "use" and step.after is not None
    ]
    return max(uses, default=None)


def _there(path: Path) -> Path:
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())
