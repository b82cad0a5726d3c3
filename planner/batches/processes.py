"""Several workers on this machine: a process each, spawned and not forked, with a log of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from planner.batches.disk import Folder, guarded
from planner.batches.log import log_to
from planner.batches.queue import Queue
from planner.batches.stop import Stop
from planner.batches.task import Job, Stopped, Task
from planner.batches.worker import DEATHS, Worker
from planner.diagnostics.diagnostic import PlanError

SPAWN = multiprocessing.get_context("spawn")
"""A fork would share CUDA's context and torch's threads, which neither survives."""
Said = tuple[str, bool] | Literal["next"] | Stopped
"""By a worker: the id of a row that ended, and whether it has its output; ``next`` once for each row that it
was given, when it can take another one, which may be before that row ended; why no row can run."""


def processes(
    jobs: Sequence[Job], tasks: Sequence[Task], folder: Folder, tell: Callable[[str], None], stop: Stop
) -> Generator[tuple[Task, bool]]:
    """Runs ``tasks``, a worker for each of ``jobs``; yields each as it ends, and whether it has its output.

    A worker that dies is started again, and its rows with it. When ``stop`` is asked for, the rows that run
    end and no others start; a generator that is closed kills its workers, which is no death of their rows.
    Raises PlanError where no row can run.
    """
    queue = Queue(tasks)
    team = [_Process(number, job, folder, DEATHS * len(jobs)) for number, job in enumerate(jobs)]
    try:
        while True:
            for one in team:
                if one.free and not stop.asked:
                    others = [other.shape for other in team if other.rows and other.shape is not None]
                    one.give(queue.take(one.shape, others))
            busy = {one.pipe: one for one in team if one.rows or not one.free}
            if not busy:
                return
            for pipe in wait([*busy]):
                one = busy[pipe]  # type: ignore[index]
                yield from one.hear()
                if one.lost:
                    for task in reversed(one.lost):
                        queue.back(task)
                    names = ", ".join(task.id for task in one.lost)
                    tell(f"worker {one.number} ended ({one.how}) with {names}: see {one.log}")
                    one.lost = []
    finally:
        for one in team:
            one.kill()


class _Process:
    """A worker's process, started when there is a row for it. ``rows``: what it was given and has not ended,
    with their starts before; ``free``: it can take one more; ``shape``: of its last row; ``lost``: rows that
    it died with."""

    pipe: Connection[Any, Any]
    process: Any = None
    free = True
    shape: str | None = None

    def __init__(self, number: int, job: Job, folder: Folder, most: int) -> None:
        self.number, self.job, self.folder, self.most = number, job, folder, most
        self.log = folder.inside / f"worker-{number}.log"
        self.rows: dict[str, tuple[Task, int]] = {}
        self.lost: list[Task] = []
        self.how = ""

    def give(self, task: Task | None) -> None:
        """Has the process run ``task``. Raises PlanError where processes die before they can (P969)."""
        if task is None:
            return
        if self.process is None:
            self._start()
        self.rows[task.id] = task, self.folder.started(task.id)
        self.shape, self.free = task.shape, False
        with suppress(OSError):  # it died: that is heard
            self.pipe.send(task)

    def hear(self) -> Iterator[tuple[Task, bool]]:
        """The row that ended, where one did, and whether it has its output. Raises PlanError that the worker
        raised."""
        try:
            said: Said = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            self.how = f"exit code {self.process.exitcode}"
            self.lost = [task for task, _ in self.rows.values()]
            self._gone()
            return
        if isinstance(said, Stopped):
            raise PlanError(said.diagnostics, said.sources)
        if said == "next":
            self.free = True
        else:
            name, good = said
            yield self.rows.pop(name)[0], good

    def kill(self) -> None:
        """Ends the process now. Rows that it had are as if they had not been started."""
        if self.process is None:
            return
        self.process.kill()
        self.process.join()
        for task, before in self.rows.values():
            self.folder.unstart(task.id, before)
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
        self.process, self.rows, self.free = None, {}, True


def serve(pipe: Connection[Any, Any], job: Job, log: Path) -> None:
    """What a worker's process does: rows until the pipe ends. Interrupts are its parent's to judge."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    say = _Mouth(pipe)
    try:
        with guarded(job.out):
            log_to(log)
            worker = Worker(job)
            while True:
                task = pipe.recv()
                worker.submit(task).add_done_callback(partial(_ended, say, job, task.id))
                say("next")
    except EOFError:
        return
    except PlanError as error:
        say(Stopped(error.diagnostics, error.sources))


class _Mouth:
    """The end of a pipe that two threads speak to: the one that calls, and the one that writes."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._turn = pipe, threading.Lock()

    def __call__(self, said: Said) -> None:
        with self._turn, suppress(OSError):  # the parent has gone: this process ends with it
            self._pipe.send(said)


def _ended(say: _Mouth, job: Job, name: str, row: Future[bool]) -> None:
    """In whatever thread the row ended."""
    try:
        with guarded(job.out):
            say((name, row.result()))
    except PlanError as error:
        say(Stopped(error.diagnostics, error.sources))
    except BaseException:  # ours: the process ends with it, as with one of the thread that calls
        traceback.print_exc()
        os._exit(1)


def _die_with_parent() -> None:
    """A batch that was killed leaves no workers that would run beside the next one's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
