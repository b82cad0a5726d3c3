"""One plan on one pipeline: what it wants of which components, and where in its walk a call is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.table.p7_session import OUT_OF_MEMORY
from planner.plan.model import Idle, Plan
from planner.schedule.fit import gib
from planner.schedule.guide import Decision, Guide
from planner.schedule.model import Schedule
from planner.session.component import ManagedComponent, Wish
from planner.session.record import Event, EventKind, Record
from planner.session.undo import Undo

if TYPE_CHECKING:
    from planner.session.device_state import DeviceState

Observer = Callable[[str, str], None]
"""Called with ``("stage", id)`` when a stage begins, and with ``("load", component)`` when one has come,
``("evict", component)`` before it leaves, ``("use", component)`` at each use and ``("end", component)`` after
it."""


class Applied:
    """A set of wishes, and what was recorded of the call that goes on. What is on the device is the device's.

    Invariant: ``components`` are in those of the ``Residency`` while this is in its ``applied``.
    """

    def __init__(
        self, plan: Plan, schedule: Schedule, state: DeviceState, notes: Iterable[Diagnostic]
    ) -> None:
        """On no component yet."""
        self.plan = plan
        self.schedule = schedule
        self.state = state
        self.notes = [*notes]
        self.components: dict[str, ManagedComponent] = {}
        self.guide = Guide(schedule.course)
        self.record = Record()
        self.last: Record | None = None
        self.observers: list[Observer] = []
        self.undo = Undo()
        self.budget: int | None = None
        """Bytes that the driver may show for this process."""
        self.visiting = 0
        """In how many step callbacks the call is: what they run does not move the walk on."""
        self.epoch: object = None
        """Another one since user code could change weights: a call, a use outside of one, a step callback."""
        self.recording = False
        """Whether ``record`` is of a scope that is open."""
        self.removed = False
        self.removing = False
        """Whether it is removed once the call that goes on is over."""
        self._used: set[str] = set()

    def remove(self) -> None:
        """The pipeline is as it was found. With the state's lock held; twice is once, and goes on where it
        was interrupted."""
        self.removed = True
        self.state.residency.leave(self)
        self.undo.close()

    def name_of(self, component: ManagedComponent) -> str | None:
        """Its name in this pipeline; None where it is not in it."""
        return next((name for name, mine in self.components.items() if mine is component), None)

    def wish(self, name: str) -> Wish:
        """What the plan wants of a component."""
        return Wish(self.schedule.placements.get(name), fixed=name in self.schedule.course.fixed)

    def nbytes(self, name: str) -> int:
        """Bytes that a component has on the device, or would."""
        held = self.components[name].nbytes
        return self.schedule.course.size(name) if held is None else held

    def resident(self) -> tuple[str, ...]:
        """The components on the device now, in the order in which they came."""
        there = (name for name, mine in self.components.items() if mine.on_device and not mine.left_in_place)
        return tuple(sorted(there, key=lambda name: self.components[name].arrival))

    def idle(self) -> tuple[str, ...]:
        """Those of them that do not run."""
        running = self.state.residency.running_components()
        return tuple(name for name in self.resident() if self.components[name] not in running)

    def begin(self) -> None:
        """A call begins, or a use outside of one."""
        self.guide.start()
        self.record = Record()
        self.record.peak = sum(map(self.nbytes, self.resident()))
        self._used.clear()
        self.visiting = 0
        self.epoch = object()
        self.recording = True

    def decide(self, name: str, entry: str, *, visit: bool) -> Decision:
        """What the walk has for this use."""
        decision = self.guide.enter(name, entry, self.resident(), aside=visit or bool(self.visiting))
        if self.record.at_stage(decision.stage):
            self.tell("stage", decision.stage)
        if decision.departure:
            self.departs(decision.departure)
        return decision

    def end(self, *, in_call: bool) -> None:
        """It is over, and what leaves has left."""
        self.record.finish()
        if in_call:
            self.record.departures += [f"{name} did not run" for name in self.guide.skipped()]
        self.last = self.record
        self.recording = False

    def leaving(self) -> tuple[str, ...]:
        """The components that are away between calls, of those on the device."""
        return self.guide.finish(self.resident())

    @property
    def keeps(self) -> bool:
        """Whether what fits stays between calls."""
        return self.schedule.course.idle is Idle.KEEP

    def write(self, do: EventKind, name: str, entry: str, stage: str) -> None:
        """Into the record of the call."""
        self.record.events.append(Event(do, name, entry, stage, self.nbytes(name)))
        if do == "use":
            self._used.add(name)
        if do == "load":
            self.record.peak = max(self.record.peak, sum(map(self.nbytes, self.resident())))
        self.tell(do, name)

    def used(self, name: str) -> bool:
        """Whether a component has run in the call that goes on."""
        return name in self._used

    def departs(self, how: str) -> None:
        """Something happened that the plan did not have."""
        self.record.departures.append(how)

    def moved(self, nbytes: int) -> None:
        """So many bytes were copied to the device."""
        self.record.moved += nbytes

    def tell(self, what: str, name: str) -> None:
        """To the observers, which show progress or measure."""
        for observer in self.observers:
            observer(what, name)

    def explain(self, error: torch.OutOfMemoryError) -> None:
        """Code, plan, stage, component and what would help, as a note on torch's own error."""
        uses = [event for event in self.record.events if event.do == "use"]
        running = uses[-1].component if uses else "nothing yet"
        stage = uses[-1].stage if uses else ""
        held = ", ".join(f"{n} {gib(self.nbytes(n))}" for n in self.resident()) or "nothing"
        line = next((s.origin for s in self.schedule.steps if s.component == running), None)
        place = f"{line.file}:{line.line}: " if line else ""
        abandoned = self.state.device.abandoned
        kept = f", and {gib(abandoned)} of weights that something else still refers to" if abandoned else ""
        error.add_note(
            f'{place}out of memory in stage "{stage}" at "{running}"; '
            f"on the device: {held}{kept} [{OUT_OF_MEMORY}]"
        )
