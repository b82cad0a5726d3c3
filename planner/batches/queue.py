"""Rows that wait, given to workers so that each one changes the shape of its rows as seldom as it can."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from planner.batches.task import Task


class Queue:
    """Tasks by their shapes."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._shapes: dict[str, deque[Task]] = {}
        for task in tasks:
            self._shapes.setdefault(task.shape, deque()).append(task)

    def __len__(self) -> int:
        return sum(map(len, self._shapes.values()))

    def take(self, shape: str | None, others: Iterable[str]) -> Task | None:
        """The next row for a worker whose last row had ``shape``: of that shape; else of one that none of
        the ``others`` is at; else of the one with the most rows left. None where no row waits."""
        left = {name: len(tasks) for name, tasks in self._shapes.items() if tasks}
        if not left:
            return None
        busy = {*others}
        best = shape if shape in left else max(left, key=lambda name: (name not in busy, left[name]))
        assert best is not None
        return self._shapes[best].popleft()

    def back(self, task: Task) -> None:
        """A row whose worker died is the next of its shape."""
        self._shapes[task.shape].appendleft(task)
