"""``plan batch``: rows checked, those that are to run given to an engine, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from planner.api import compile, load
from planner.batches.ahead import Ahead, Finished, ahead, finished
from planner.batches.alone import alone
from planner.batches.check import Row, check_rows
from planner.batches.devices import kind_for_ray, kind_of, placed
from planner.batches.disk import Folder, guarded, held
from planner.batches.metrics import Ended
from planner.batches.metrics import metrics as measured
from planner.batches.on_ray import on_ray
from planner.batches.packed import packed
from planner.batches.processes import processes
from planner.batches.results import write_results
from planner.batches.rows import STDIN, read_rows
from planner.batches.shapes import shapes_of
from planner.batches.stop import Stop, stoppable
from planner.batches.task import Job, Task
from planner.batches.todo import in_order, task_of, todo
from planner.diagnostics.diagnostic import Diagnostic, PlanError, by_place, errors, finding
from planner.diagnostics.table.p9_batch import WORKERS_REFUSED
from planner.plan.model import Plan
from planner.schedule.card import SIMULATED, Card
from planner.stages.front import PathOrPlan

Engine = Generator[tuple[Task, bool]]
"""Rows as they end, and whether each has its output; closed, it ends now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How a batch ended: its rows' records are in ``results``. ``left``: rows that did not run;
    ``ahead``: of a dry run, what they will take."""

    done: int
    skipped: int
    failed: int
    left: int
    results: Path | None
    interrupted: bool = False
    ahead: Ahead | None = None

    @property
    def exit_code(self) -> int:
        """130 interrupted, 4 where a row failed, else 0."""
        return 130 if self.interrupted else 4 if self.failed else 0


def batch(
    source: PathOrPlan,
    inputs: str | Path,
    out: str | Path,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
    simulate: bool = False,
    limit: int | None = None,
    retry: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    card: Card | None = None,
    metrics: str | Path | None = None,
    overrides: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Batch:
    """Runs a plan once for each row of ``inputs`` and writes the outputs to ``out/ID.png`` (``.mp4``, ...).

    ``inputs``: ``.jsonl``, ``.csv``, ``.parquet`` or ``-``; a row is an ``id`` and arguments that override
    the plan's ``run``. ``workers``: processes, at most one a device that the plan's device key allows, which
    is the default; one alone works in this process. ``engine``: ``ray`` has them as actors of Ray Data, in
    the cluster at ``address`` or one of its own. ``simulate``: on ``sim:0``; ``limit``: rows to run at
    most; ``retry``: rows that failed, too; ``force``: outputs of another plan are made again; ``fail_fast``:
    no row starts after the first that fails; ``dry_run``: nothing runs, and what the rows would take is told,
    on ``card`` where that is given (``planner.schedule.card.imagined_as``), which then need not be here;
    ``metrics``: a file for Prometheus, written anew with each row that ends; ``tell``: is given lines of
    progress. What is finished is known by ``out`` and not run again.
    Raises PlanError for bad rows before any weight is read, and for a folder that cannot be written.
    """
    from planner.loading.packages import require

    require()
    plan = load(source, overrides=(*overrides, "idle=keep"))
    if address is not None and engine != "ray":
        said = f'the address "{address}" is for the engine ray'
        raise PlanError([finding(WORKERS_REFUSED, said, hint="--engine ray")])
    if card is not None and not dry_run:
        said = "a card is for a dry run: rows run on the card that is here"
        raise PlanError([finding(WORKERS_REFUSED, said, hint="--dry-run")])
    if card is not None:
        devices = [f"{kind_of(plan)}:0"] * (workers or 1)
    elif engine == "ray":
        devices = [f"{kind_for_ray(plan, simulate=simulate)}:0"]
    else:
        devices = placed(plan, workers, simulate=simulate)
    rows, warned = _rows(plan, inputs)
    for first in {one.message: one for one in reversed(warned)}.values():
        tell(str(first))
    where = Path(out)
    there = card or (None if engine == "ray" and not simulate else _card_on(devices[0])) if dry_run else None
    if dry_run and not where.exists():  # which makes nothing
        new = in_order(task_of(row, "") for row in rows)[:limit]
        return _dry(plan, new, workers or len(devices), where, finished(plan, [], {}, where), there)
    with guarded(where), held(where) as folder:
        kind = devices[0].partition(":")[0]
        tasks, skipped, failed = todo(folder, rows, kind, retry=retry, force=force)
        del tasks[limit or len(tasks) :]
        if dry_run:
            done_before = folder.finished([row.id for row in rows])
            before = finished(plan, done_before, {row.id: row.plan.run for row in rows}, where)
            dry = _dry(plan, tasks, workers or len(devices), where, before, there)
            return replace(dry, skipped=skipped, failed=failed)
        for task in tasks:
            folder.renew(task.id)
        shares = engine == "ray" or len(devices) > 1
        largest = shapes_of(plan, tasks)[0].first.run if tasks else None
        jobs = _jobs(plan, devices, folder, shares, largest)
        run: Callable[[Stop], Engine]
        if engine == "ray":
            run = partial(on_ray, jobs[0], workers, address, tasks, folder)
        elif len(jobs) == 1:
            run = partial(alone, jobs[0], tasks)
        else:
            run = partial(processes, jobs, tasks, folder, tell)
        measure = measured(None if metrics is None else Path(metrics), plan.name, len(tasks))
        progress = _Progress(len(tasks), tell, folder, measure)
        interrupted = _run(run, progress, fail_fast) if tasks else False
        results = write_results(folder, [row.id for row in rows])
        ended = [folder.ended(task.id, task.key) for task in tasks]
        done, failed = ended.count("done"), failed + ended.count("failed")
        left = len(rows) - skipped - done - failed
        return Batch(
            done=done,
            skipped=skipped,
            failed=failed,
            left=left,
            results=results,
            interrupted=interrupted and left > 0,
        )


def _dry(
    plan: Plan, tasks: Sequence[Task], workers: int, out: Path, before: Finished, card: Card | None
) -> Batch:
    told = ahead(plan, tasks, workers, out, before, card) if tasks else None
    return Batch(done=0, skipped=0, failed=0, left=len(tasks), results=None, ahead=told)


def _card_on(device: str) -> Card:
    if device.startswith("sim"):
        return SIMULATED
    import torch

    from planner.session.machine import card_on

    return card_on(torch.device(device))


def _rows(plan: Plan, inputs: str | Path) -> tuple[list[Row], list[Diagnostic]]:
    """And what should be looked at in them. Raises PlanError with all bad rows."""
    from planner.loading.inputs import signature
    from planner.loading.pipeline import class_of

    target = compile(plan).target
    call = target.call if target.call is not None else signature(class_of(plan))
    raws, found, texts = read_rows(inputs, call)
    folder = Path() if str(inputs) == STDIN else Path(inputs).parent
    rows, more = check_rows(plan, raws, call, target.cls, folder)
    if errors(found + more):
        raise PlanError(by_place(found + more), (*texts, *plan.document.sources))
    return rows, by_place(found + more)


def _jobs(
    plan: Plan,
    devices: Sequence[str],
    folder: Folder,
    shares: bool,
    largest: Mapping[str, Any] | None,
) -> list[Job]:
    import torch

    data, out, threads = packed(plan), folder.out.absolute(), torch.get_num_threads()
    return [
        Job(
            plan=data,
            device=device,
            out=out,
            token=folder.token,
            threads=threads,
            shares=shares,
            largest=largest,
        )
        for device in devices
    ]


def _run(run: Callable[[Stop], Engine], progress: _Progress, fail_fast: bool) -> bool:
    """Whether somebody interrupted it. What came of the rows is in the folder."""
    with stoppable(progress.tell) as stop:
        try:
            with closing(run(stop)) as engine:
                for task, good in engine:
                    progress.ended(task, good)
                    if fail_fast and not good:
                        stop.ask()
        except KeyboardInterrupt:
            stop.interrupted = True
    return stop.interrupted


class _Progress:
    """What is told while rows run; what workers have to say, too, each thing once."""

    def __init__(self, of: int, tell: Callable[[str], None], folder: Folder, measure: Ended) -> None:
        self.of, self.tell, self.folder, self.measure = of, tell, folder, measure
        self.told: set[str] = set()
        self.number = self.failed = 0
        self.started = time.monotonic()

    def ended(self, task: Task, good: bool) -> None:
        for note in self.folder.notes():
            if note not in self.told:
                self.told.add(note)
                self.tell(note)
        self.measure(self.folder.record(task.id), good)
        self.number, self.failed = self.number + 1, self.failed + (not good)
        rate = self.number / max(time.monotonic() - self.started, 1e-9)
        eta = (self.of - self.number) / rate
        self.tell(
            f"{self.number}/{self.of} {task.id}   {rate * 60:.1f} rows/min   ETA {eta / 60:.0f} min   "
            f"{self.failed} failed"
        )
