"""Several workers on this machine: a process each, spawned and not forked, with a log of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from planner.batches.disk import Folder, guarded
from planner.batches.log import log_to
from planner.batches.queue import Queue
from planner.batches.stop import Stop
from planner.batches.worker import DEATHS, Job, Stopped, Task, Worker
from planner.diagnostics.diagnostic import PlanError

SPAWN = multiprocessing.get_context("spawn")
"""A fork would share CUDA's context and torch's threads, which neither survives."""


def processes(
    jobs: Sequence[Job], tasks: Sequence[Task], folder: Folder, tell: Callable[[str], None], stop: Stop
) -> Generator[tuple[Task, bool]]:
    """Runs ``tasks``, a worker for each of ``jobs``; yields each as it ends, and whether it has its output.

    A worker that dies is started again, and its row with it. When ``stop`` is asked for, the rows that run
    end and no others start; a generator that is closed kills its workers, which is no death of their rows.
    Raises PlanError where no row can run.
    """
    queue = Queue(tasks)
    team = [_Process(number, job, folder, DEATHS * len(jobs)) for number, job in enumerate(jobs)]
    try:
        while True:
            for one in team:
                if one.task is None and not stop.asked:
                    one.give(
                        queue.take(one.shape, [other.task.shape for other in team if other.task is not None])
                    )
            busy = {one.pipe: one for one in team if one.task is not None}
            if not busy:
                return
            for pipe in wait([*busy]):
                one = busy[pipe]  # type: ignore[index]
                task, good = one.hear()
                if good is not None:
                    yield task, good
                else:
                    queue.back(task)
                    tell(f"worker {one.number} ended ({one.how}) with {task.id}: see {one.log}")
    finally:
        for one in team:
            one.kill()


class _Process:
    """A worker's process, started when there is a row for it; ``shape``: of its last row."""

    pipe: Connection[Any, Any]
    process: Any = None
    task: Task | None = None
    shape: str | None = None

    def __init__(self, number: int, job: Job, folder: Folder, most: int) -> None:
        self.number, self.job, self.folder, self.most = number, job, folder, most
        self.log = folder.inside / f"worker-{number}.log"
        self.before = 0
        self.how = ""

    def give(self, task: Task | None) -> None:
        """Has the process run ``task``. Raises PlanError where processes die before they can (P969)."""
        if task is None:
            return
        if self.process is None:
            self._start()
        self.task, self.shape, self.before = task, task.shape, self.folder.started(task.id)
        with suppress(OSError):  # it died: that is heard
            self.pipe.send(task)

    def hear(self) -> tuple[Task, bool | None]:
        """The row that ended, and whether it has its output; None where its process died. Raises PlanError
        that the worker raised."""
        assert self.task is not None
        task, good = self.task, None
        try:
            said = self.pipe.recv()
            if isinstance(said, Stopped):
                raise PlanError(said.diagnostics, said.sources)
            good = said
        except (EOFError, OSError):
            self.process.join()
            self.how = f"exit code {self.process.exitcode}"
            self._gone()
        self.task = None
        return task, good

    def kill(self) -> None:
        """Ends the process now. A row that ran is as if it had not been started."""
        if self.process is None:
            return
        self.process.kill()
        self.process.join()
        if self.task is not None:
            self.folder.unstart(self.task.id, self.before)
        self._gone()

    def _start(self) -> None:
        self.folder.loading(self.most)
        self.pipe, theirs = SPAWN.Pipe()
        name = f"offload-plan worker {self.number}"
        self.process = SPAWN.Process(target=serve, args=(theirs, self.job, self.log), name=name, daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def _gone(self) -> None:
        self.pipe.close()
        self.process = None


def serve(pipe: Connection[Any, Any], job: Job, log: Path) -> None:
    """What a worker's process does: rows until the pipe ends. Interrupts are its parent's to judge."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        with guarded(job.out):
            log_to(log)
            worker = Worker(job)
            while True:
                task = pipe.recv()
                pipe.send(worker.row(task))
    except EOFError:
        return
    except PlanError as error:
        pipe.send(Stopped(error.diagnostics, error.sources))


def _die_with_parent() -> None:
    """A batch that was killed leaves no workers that would run beside the next one's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
