"""One progress bar for a run, fed by a session: the stage, its passes, the time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from tqdm import tqdm

from planner.plan.model import Plan
from planner.schedule.model import Schedule
from planner.source.visible import visible

Observer = Callable[[str, str], None]


@contextmanager
def progress(session: Any, plan: Plan, pipe: Any, console: Console | None = None) -> Iterator[None]:
    """Shows a bar a stage on stderr while the call inside runs, in place of diffusers' own.

    ``session`` has ``schedule`` and ``observers``. Afterwards the pipeline and the session are as they
    were, also when the call raised.
    """
    bars = Bars(session.schedule, plan, console or _stderr())
    before = pipe.__dict__.get("progress_bar")
    # Pipelines step this bar once a denoising step; uses would count guidance's second pass too.
    pipe.__dict__["progress_bar"] = bars.steps
    session.applied.observers.append(bars.observe)
    try:
        with bars.shown:
            yield
            bars.finish()
    finally:
        session.applied.observers.remove(bars.observe)
        if before is None:
            del pipe.__dict__["progress_bar"]
        else:
            pipe.__dict__["progress_bar"] = before


@contextmanager
def reading(total: int, console: Console | None = None) -> Iterator[Callable[[int], object]]:
    """Shows a bar of bytes on stderr while ``total`` of them are read, if there are any; what is yielded is
    told of each part."""
    console = console or _stderr()
    columns = (
        TextColumn("{task.description}", markup=False),
        DownloadColumn(binary_units=True),
        BarColumn(bar_width=20),
    )
    with Progress(
        *columns, TransferSpeedColumn(), console=console, auto_refresh=console.is_terminal, disable=not total
    ) as shown:
        task = shown.add_task("weights", total=total)
        yield lambda nbytes: shown.advance(task, nbytes)


def _stderr() -> Console:
    """It alone is asked whether it is a terminal: to want colours (FORCE_COLOR) does not make it one."""
    return Console(stderr=True, force_terminal=sys.stderr.isatty())


class Bars:
    """A bar for each stage, added when it begins."""

    def __init__(self, schedule: Schedule, plan: Plan, console: Console) -> None:
        self._totals = dict(totals(schedule, plan))
        self._loops = _step_loops(schedule)
        self._first = _first_components(schedule)
        self._stage = ""
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._exact: int | None = None
        self._stepping = False
        width = max((len(name) for name in self._totals), default=0)
        self.shown = Progress(
            TextColumn(f"{{task.description:<{width}}}", markup=False),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            # A bar drawn over itself is noise in a file; there, one line a stage at the end is enough.
            auto_refresh=console.is_terminal,
        )

    def observe(self, what: str, name: str) -> None:
        """``("stage", id)`` or ``("use", component)``, as a session says it."""
        if what == "stage":
            self._begin(name)
        elif (
            what == "use"
            and self._stage
            and not (self._stepping and self._stage in self._loops)
            and self._leads(name)
        ):
            self._count(1)

    def steps(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> Steps:
        """In the place of ``pipe.progress_bar``: what it counts are the steps of the running stage."""
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._exact, self._stepping = total, True
        return Steps(self, iterable, total)

    def step(self, number: int) -> None:
        """So many steps more are done."""
        if self._stage in self._loops:
            self._count(number)

    def end_steps(self) -> None:
        """The loop is over; what comes now is counted by its uses again."""
        self._exact, self._stepping = None, False

    def finish(self) -> None:
        """The call returned: the last stage is done."""
        self._close()

    def _begin(self, stage: str) -> None:
        self._close()
        self._stage = stage
        if not stage:
            return
        if self._exact is not None and self._loops.get(stage) == 1.0:
            self._totals[stage] = self._exact  # img2img makes fewer steps than it is asked for
        if stage not in self._tasks:
            self._tasks[stage] = self.shown.add_task(visible(stage), total=self._totals.get(stage, 1))

    def _leads(self, component: str) -> bool:
        return component == self._first.get(self._stage, component)

    def _count(self, number: int) -> None:
        done = self._done[self._stage] = self._done.get(self._stage, 0) + number
        total = self._totals.get(self._stage, 1)
        self.shown.update(self._tasks[self._stage], completed=done if total is None else min(done, total))

    def _close(self) -> None:
        task = self._tasks.get(self._stage)
        if task is None:
            return
        total = self._totals.get(self._stage, 1) or max(1, self._done.get(self._stage, 0))
        self.shown.update(task, total=total, completed=total)
        self.shown.stop_task(task)


class Steps(tqdm):  # type: ignore[misc]  # it ships no types
    """A pipeline's own bar, which shows nothing and tells the run's: whatever a tqdm bar has, it has."""

    def __init__(self, bars: Bars, iterable: Iterable[Any] | None, total: int | None) -> None:
        super().__init__(iterable, total=total, disable=True)
        self._bars = bars

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()
        self.close()

    def update(self, n: float | None = 1) -> None:
        """``n`` steps more."""
        self.n += n or 0
        self._bars.step(int(n or 0))

    def close(self) -> None:
        """No more steps."""
        self._bars.end_steps()

    def __del__(self) -> None:
        """A bar that a pipeline forgot ends no other's steps."""


def totals(schedule: Schedule, plan: Plan) -> Mapping[str, int | None]:
    """Passes of each stage: a loop's count, its share of ``run.num_inference_steps``; None where only the
    pipeline knows."""
    steps = plan.run.get("num_inference_steps")
    found: dict[str, int | None] = {}
    for node in schedule.course.walk:
        loop = node.loop
        if loop is None:
            found[node.id] = 1
        elif loop.count is not None:
            found[node.id] = loop.count
        elif loop.share is not None and isinstance(steps, int) and not isinstance(steps, bool):
            found[node.id] = max(1, round(loop.share * steps))
        else:
            found[node.id] = None
    return found


def _first_components(schedule: Schedule) -> Mapping[str, str]:
    """The component whose uses count a looped stage's passes."""
    return {node.id: node.runs[0].component for node in schedule.course.walk if node.loop and node.runs}


def _step_loops(schedule: Schedule) -> Mapping[str, float]:
    """Stages that loop over the steps, and over which share of them."""
    loops = ((node.id, node.loop) for node in schedule.course.walk)
    return {name: loop.share for name, loop in loops if loop is not None and loop.share is not None}
