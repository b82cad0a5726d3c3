"""A worker: one pipeline on one device, for one row after the other; the same in every engine."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import Any

from planner.api import device_for
from planner.batches.beside import beside
from planner.batches.disk import Folder
from planner.batches.faults import faulted, faults_to
from planner.batches.foresee import Foretold, foretold
from planner.batches.packed import unpacked
from planner.batches.publish import Called, Publisher
from planner.batches.task import Job, Task
from planner.batches.work import Cancelled, Work
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import ROW_DIED, WEIGHTS_COPIED
from planner.plan.model import Plan
from planner.plan.run import with_run
from planner.schedule.fit import gib

DEATHS = 3
"""So many starts without an end set a row aside."""


class Worker:
    """Runs rows, one call at a time. The pipeline is loaded when the first one needs it."""

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
        self._publisher = Publisher(self.folder)
        self._written: tuple[str, int, Future[bool]] | None = None
        """The last row that was given to the other thread: its id, and its starts before."""

    def submit(self, task: Task) -> Future[bool]:
        """Runs a row's call, now; the future is whether the row has its output. Another thread writes that
        while this one may run the next row's call; a third row's waits for it.

        The only place where a row is started and counted. Where a process ends with two rows in it, nobody
        can tell whose fault it was: both are counted, and a row that was started before runs alone, its
        writing too, so that none is counted for another one's death a second time. Raises PlanError where no
        row can run (a pipeline that cannot be loaded, a folder that another batch took) and OSError for the
        folder, also what the writing of the row before raised.
        """
        known = self._known(task)
        if known is not None:
            self.folder.forget(task.id)  # it ended, and its process before it could say so
            return _ended(known)
        started = self.folder.started(task.id)
        if started >= DEATHS:
            said = f'"{task.id}" was started {DEATHS} times and the process ended each time'
            self._publisher.set_aside(task, [finding(ROW_DIED, said, span=task.span)])
            return _ended(False)
        if started:
            self._wait()
        if self._shares and faulted(self.folder.faults / task.id):
            self._copied(
                f'"{task.id}" ended its process with a fault, as writing to weights that are shared does'
            )
            self._unload()
        if self._work is None:
            self._work = self._prepared()
        try:
            self.folder.start(task.id)
            called = self._called(self._work, task, started)
            self._wait()
            if called is None:
                return _ended(False)
            written = beside(partial(self._publisher.publish, called))
            self._written = task.id, started, written
            if started:
                self._wait()
        except BaseException:  # the folder failed, or an interrupt: no death of the row's
            self.folder.unstart(task.id, started)
            raise
        return written

    def close(self) -> None:
        """The pipeline is as it was loaded; a row that is being written, as if it had not been started."""
        self._publisher.abandon()
        if self._written is not None:
            name, started, written = self._written
            if not written.done():
                self.folder.unstart(name, started)
        self._unload()

    def _known(self, task: Task) -> bool | None:
        """How the row ended here or for a worker that had it before; None where it did not."""
        record = self.folder.record(task.id)
        if record is None or record["key"] != task.key:
            return None
        if record["status"] == "failed":
            return False
        return True if self.folder.whole(record) else None

    def _wait(self) -> None:
        """Until nothing is written. Raises what the writing raised, each time."""
        if self._written is not None:
            self._written[-1].result()

    def _stops(self) -> bool:
        """Whether no row can be written any more: the call that runs is for nothing."""
        if self._written is None:
            return False
        written = self._written[-1]
        return written.done() and written.exception() is not None

    def _unload(self) -> None:
        if self._work is not None:
            self._work.remove()
            self._work = None

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

    def _called(self, work: Work, task: Task, started: int) -> Called | None:
        """What the row's call made, on the host; None where it failed, which sets the row aside."""
        from planner.loading.outputs import outputs_of, sample_rate_of

        plan = with_run(self.plan, task.run)
        try:
            with faults_to(self.folder.faults / task.id) if self._shares else nullcontext():
                outcome = work.call(plan, task.id, stops=self._stops)
            if self._shares:
                self._tell_own(work.pipe, task.id)
            return Called(
                task=task,
                plan=plan,
                made=outputs_of(outcome.result),
                sample_rate=sample_rate_of(work.pipe),
                measured=outcome.measured,
                started=started,
            )
        except Cancelled:
            self._wait()
            raise
        except PlanError as error:
            self._publisher.set_aside(task, error.diagnostics)
            return None


def _ended(good: bool) -> Future[bool]:
    """Of a row of which nothing is to be written."""
    made: Future[bool] = Future()
    made.set_result(good)
    return made
