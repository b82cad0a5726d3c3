"""A worker: one pipeline on one device, for one row after the other; the same in every engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.api import device_for
from planner.batches.disk import Folder, digest_of
from planner.batches.faults import faulted, faults_to
from planner.batches.foresee import Foretold, foretold
from planner.batches.packed import unpacked
from planner.batches.work import Work
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_batch import ROW_DIED, WEIGHTS_COPIED
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.loading.kinds import SUFFIXES
from planner.plan.model import Plan
from planner.plan.run import SEED, with_run
from planner.schedule.fit import gib
from planner.source.text import SourceText, Span

DEATHS = 3
"""So many starts without an end set a row aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row as it travels to a worker. ``run``: the plan's with the row's over it; ``key``: of its output;
    ``shape``: rows of one shape run the same kernels on the same sizes."""

    id: str
    run: Mapping[str, Any]
    key: str
    shape: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is told when it starts. ``plan``: packed; ``device``: of torch; ``token``: of the batch
    that holds ``out``, an absolute path; ``threads``: that torch computes with, which the order of a sum on
    a CPU depends on; ``shares``: weights with the other workers of its machine; ``largest``: the call for
    which a card is to have room, None where nobody says."""

    plan: bytes
    device: str
    out: Path
    token: str
    threads: int
    shares: bool = False
    largest: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why no row can run in a worker: a PlanError, which is not one any more when it is pickled."""

    diagnostics: tuple[Diagnostic, ...]
    sources: tuple[SourceText, ...]


class Worker:
    """Runs rows. The pipeline is loaded when the first one needs it."""

    def __init__(self, job: Job) -> None:
        """Raises PlanError where this machine has no such device."""
        import torch

        if job.device.startswith("sim"):
            from planner.virtual import backend

            backend.install()  # torch does not know the name before
        torch.set_num_threads(job.threads)
        self.folder = Folder(job.out, job.token)
        self.plan: Plan = unpacked(job.plan)
        self.device = device_for(torch.device(job.device))
        self._shares = job.shares
        self._largest = job.largest
        self._own: dict[str, int] = {}
        self._work: Work | None = None
        self._room: Path | None = None

    def close(self) -> None:
        """The pipeline is as it was loaded."""
        if self._work is not None:
            self._work.remove()
            self._work = None

    def row(self, task: Task) -> bool:
        """Whether the row has its output, made now or by a worker that had the row before.

        The only place where a row is started, counted and set aside. Raises PlanError where no row can run
        (a pipeline that cannot be loaded, a folder that another batch took), OSError for the folder.
        """
        record = self.folder.record(task.id)
        if record is not None and record["key"] == task.key:
            if record["status"] == "failed":
                return False
            if self.folder.whole(record):
                return True
        started = self.folder.started(task.id)
        if started >= DEATHS:
            said = f'"{task.id}" was started {DEATHS} times and the process ended each time'
            self._keep(task, None, [finding(ROW_DIED, said, span=task.span)])
            return False
        if self._shares and faulted(self.folder.faults / task.id):
            self._copied(
                f'"{task.id}" ended its process with a fault, as writing to weights that are shared does'
            )
            self.close()
        if self._work is None:
            self._work = self._prepared()
        self.folder.start(task.id)
        try:
            if not self._shares:
                return self._called(self._work, task)
            with faults_to(self.folder.faults / task.id):
                good = self._called(self._work, task)
            self._tell_own(self._work.pipe, task.id)
            return good
        except BaseException:  # the folder failed, or an interrupt: no death of the row's
            self.folder.unstart(task.id, started)
            raise

    def _prepared(self) -> Work:
        told = self._foretold()
        work = Work(self.plan, self._loaded(), self.device, told)
        self.folder.loaded()
        self._tell_own(work.pipe)
        return work

    def _foretold(self) -> Foretold | None:
        """Of the largest call, on CUDA: the first row then has the room that it would have had to learn."""
        if self._largest is None or self.device.name.type != "cuda":
            return None
        from planner.session.machine import card_on

        told = foretold(with_run(self.plan, self._largest), card_on(self.device.name))
        if told.why:
            print(told.why, file=sys.stderr)
        return told

    def _loaded(self) -> Any:
        from planner.loading.pipeline import load_pipeline

        if not self._shares:
            return load_pipeline(self.plan, device_type=self.device.name.type)
        from planner.batches.sharing import shared_pipeline

        pipe, why = shared_pipeline(self.plan, self.device.name, self.folder)
        if why is not None:
            self._copied(why)
        return pipe

    def _copied(self, why: str) -> None:
        """The weights of this worker are its own from here on."""
        self._shares = False
        self._note(f"a worker has a copy of all weights: {why}")

    def _tell_own(self, pipe: Any, row: str = "") -> None:
        """Which components have more weights in memory of this process than before ``row``."""
        if not self._shares:
            return
        from planner.loading.segment import own_bytes

        now = own_bytes(pipe)
        for name, nbytes in now.items():
            if row and nbytes > self._own.get(name, 0):
                self._note(f'a worker has a copy of {gib(nbytes)} of "{name}", since "{row}" changed it')
        self._own = now

    def _note(self, said: str) -> None:
        line = str(finding(WEIGHTS_COPIED, said))
        print(line, file=sys.stderr)
        self.folder.note(line)

    def _called(self, work: Work, task: Task) -> bool:
        plan = with_run(self.plan, task.run)
        try:
            outcome = work.call(plan, task.id)
            written = self._written(work, task, plan, outcome.result)
        except PlanError as error:
            if any(d.code is OUTPUT_UNWRITABLE for d in error.diagnostics):
                raise OSError(error.diagnostics[0].message) from error
            self._keep(task, None, error.diagnostics)
            return False
        before = self.folder.record(task.id) or {"outputs": []}
        paths = self.folder.publish(written)
        self._keep(task, outcome.measured, [], paths)
        for name in {*before["outputs"]} - {path.name for path in paths}:
            (self.folder.out / name).unlink(missing_ok=True)  # of a row that had more outputs
        return True

    def _written(self, work: Work, task: Task, plan: Plan, result: Any) -> list[Path]:
        """The outputs on the disk, under names that nobody looks for."""
        from planner.loading.outputs import outputs_of, sample_rate_of, save

        if self._room is None:
            self._room = self.folder.room()
        to = self._room / f"{task.id}{SUFFIXES[outputs_of(result)[0].kind][0]}"
        return save(result, plan, to, sample_rate=sample_rate_of(work.pipe), force=True)

    def _keep(
        self, task: Task, measured: Any, found: Sequence[Diagnostic], paths: Sequence[Path] = ()
    ) -> None:
        said = [{"code": d.code.id, "message": d.message} for d in found]
        self.folder.keep(
            {
                "id": task.id,
                "status": "done" if paths else "failed",
                "seed": task.run[SEED],
                "seconds": measured.total if measured else None,
                "peak": measured.peak_weights if measured else None,
                "moved": measured.moved if measured else None,
                "outputs": [path.name for path in paths],
                "digest": digest_of(paths) if paths else None,
                "finding": said[0] if said else None,
                "key": task.key,
            }
        )
