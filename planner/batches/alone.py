"""One worker, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future

from planner.batches.stop import Stop
from planner.batches.task import Job, Task
from planner.batches.worker import Worker


def alone(job: Job, tasks: Sequence[Task], stop: Stop) -> Generator[tuple[Task, bool]]:
    """As ``processes``. A row whose output is still being written when the next one's call begins is told of
    after that call: the thread that would tell it runs the call, since it is the one that gets signals."""
    worker = None
    waiting: deque[tuple[Task, Future[bool]]] = deque()
    try:
        for task in tasks:
            while waiting and waiting[0][1].done():
                before, ended = waiting.popleft()
                yield before, ended.result()
            if stop.asked:
                break
            worker = worker or Worker(job)
            waiting.append((task, worker.submit(task)))
        for before, ended in waiting:
            yield before, ended.result()
    finally:
        if worker is not None:
            worker.close()
