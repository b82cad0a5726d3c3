"""A plan applied to a pipeline: what its user has of it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic
from planner.plan.model import Plan
from planner.report.build import report_of
from planner.report.model import Measured, Report
from planner.schedule.model import Schedule
from planner.session.device_state import Scope
from planner.session.machine import describe_device
from planner.session.onload import check
from planner.session.remove import remove

if TYPE_CHECKING:
    from planner.session.applied import Applied


class Session:
    """A plan applied to a pipeline, until ``remove()`` or until the pipeline is gone.

    Also a context manager: leaving it removes the plan. ``applied`` is what the rest of this package works
    with."""

    def __init__(self, applied: Applied) -> None:
        """Made by ``planner.apply``; see there."""
        self.applied = applied

    @property
    def plan(self) -> Plan:
        """What was applied."""
        return self.applied.plan

    @property
    def schedule(self) -> Schedule:
        """What was compiled of it."""
        return self.applied.schedule

    @property
    def device(self) -> Device:
        """The way to the execution device; ``device.name`` is torch's."""
        return self.applied.state.device

    @property
    def budget(self) -> int | None:
        """Bytes that the driver may show for this process, for another plan beside this one."""
        return self.applied.budget

    @property
    def notes(self) -> list[Diagnostic]:
        """What was found when the plan was applied."""
        return self.applied.notes

    def remove(self) -> None:
        """Gives the pipeline back as it was found. Twice is once; after an exception it may be called
        again."""
        remove(self.applied)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def report(self) -> Report:
        """Promised beside measured, for the last call; ``str()`` of it is a table.

        Raises RuntimeError when the pipeline has not been called yet.
        """
        last = self.applied.last
        if last is None:
            raise RuntimeError("the pipeline has not been called yet: there is nothing to report")
        measured = Measured(
            peak_weights=last.peak,
            moved=last.moved,
            seconds=last.seconds,
            total=last.total,
            departures=tuple(last.departures),
        )
        return report_of(self.schedule, self.plan, measured, describe_device(self.device.name))

    def resident(self) -> tuple[str, ...]:
        """The components on the device now, in the order in which they came."""
        return self.applied.resident()

    def call(self) -> Call:
        """The scope of one call of the pipeline. Open it yourself around a loop of your own: ``with
        session.call():``.

        Whatever ends it, in whatever thread, what the plan wants away between calls is away afterwards. A
        call inside it joins it."""
        return Call(self.applied)


class Call:
    """What ``Session.call`` returns. It may be left by another thread than it was entered by."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self._scope: Scope | None = None

    def __enter__(self) -> None:
        state, applied = self._applied.state, self._applied
        self._scope = Scope(applied, None, weakref.ref(self))
        try:
            state.open(self._scope, lambda: check(state.residency, applied))
        except BaseException:
            state.close(self._scope)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            self._applied.explain(error)
        if self._scope is not None:
            self._applied.state.close(self._scope)
