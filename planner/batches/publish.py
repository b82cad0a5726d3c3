"""From what a call returned to a row that has ended: files written, published under their names, recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.batches.disk import Folder, digest_of
from planner.batches.task import Task
from planner.diagnostics.diagnostic import Diagnostic, PlanError
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.loading.kinds import SUFFIXES
from planner.plan.model import Plan
from planner.plan.run import SEED
from planner.report.model import Measured

if TYPE_CHECKING:
    from planner.loading.outputs import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A row whose call has ended, nothing of it on the device any more. ``plan``: with the row's run;
    ``made``: at least one output, ``sample_rate`` of sound among them; ``started``: how often the row was
    started before, without an end."""

    task: Task
    plan: Plan
    made: Sequence[Made]
    sample_rate: int
    measured: Measured | None
    started: int


class Abandoned(Exception):
    """The row is not wanted any more."""


class Publisher:
    """Of one worker, for one row at a time. ``abandon`` is for another thread than the one that writes."""

    def __init__(self, folder: Folder) -> None:
        """Nothing is on the disk before the first row."""
        self._folder = folder
        self._room: Path | None = None
        self._step = threading.Lock()
        self._abandoned = False

    def publish(self, called: Called) -> bool:
        """Whether the row has its outputs: one that nothing can hold is set aside.

        Raises OSError for the folder, PlanError where another batch holds it (P964), Abandoned after
        ``abandon``: the row is then as if it had not been started.
        """
        task = called.task
        try:
            written, found = self._written(called)
            with self._wanted():
                if found:
                    self.set_aside(task, found)
                    return False
                before = self._folder.record(task.id) or {"outputs": []}
                paths = self._folder.publish(written)
                self._keep(task, called.measured, [], paths)
            for name in {*before["outputs"]} - {path.name for path in paths}:
                (self._folder.out / name).unlink(missing_ok=True)  # of a row that had more outputs
        except BaseException:  # the folder failed: no death of the row's
            with suppress(Abandoned), self._wanted():
                self._folder.unstart(task.id, called.started)
            raise
        return True

    def set_aside(self, task: Task, found: Sequence[Diagnostic]) -> None:
        """The row has failed. Raises OSError."""
        self._keep(task, None, found)

    def abandon(self) -> None:
        """Nothing is published from here on; what is being published is by then."""
        with self._step:
            self._abandoned = True

    @contextmanager
    def _wanted(self) -> Iterator[None]:
        """Around what changes the folder: it may be another batch's once this one has abandoned the row."""
        with self._step:
            if self._abandoned:
                raise Abandoned
            yield

    def _written(self, called: Called) -> tuple[list[Path], Sequence[Diagnostic]]:
        """The outputs on the disk, under names that nobody looks for; or why nothing can hold them."""
        from planner.loading.outputs import save_outputs

        if self._room is None:
            self._room = self._folder.room()
        to = self._room / f"{called.task.id}{SUFFIXES[called.made[0].kind][0]}"
        try:
            return save_outputs(called.made, called.plan, to, sample_rate=called.sample_rate, force=True), ()
        except PlanError as error:
            if any(d.code is OUTPUT_UNWRITABLE for d in error.diagnostics):
                raise OSError(error.first.message) from error
            return [], error.diagnostics

    def _keep(
        self, task: Task, measured: Measured | None, found: Sequence[Diagnostic], paths: Sequence[Path] = ()
    ) -> None:
        said = [{"code": d.code.id, "message": d.message} for d in found]
        self._folder.keep(
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
