"""A schedule at work: components come when they are used and leave as the guide says.

Any call order gives right results: the guide decides for what happens, not for what was expected,
and the report says where the two differ.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p7_session import MOVE_REFUSED, OUT_OF_MEMORY
from planner.plan.model import Idle, Plan
from planner.report.build import report_of
from planner.report.model import Measured, Report
from planner.schedule.fit import gib
from planner.schedule.guide import Guide
from planner.schedule.model import Schedule
from planner.session.aboard import Aboard
from planner.session.headroom import Headroom
from planner.session.likeness import likeness
from planner.session.machine import describe_device
from planner.session.member import Member
from planner.session.record import Record
from planner.session.shared import Relay, group_of

Observer = Callable[[str, str], None]
"""Called with ``("stage", id)`` when a stage begins and ``("use", component)`` at each use."""


class Session:
    """A plan applied to a pipeline, until ``remove()`` or until the pipeline is gone.

    Also a context manager: leaving it removes the plan.
    """

    def __init__(
        self, plan: Plan, schedule: Schedule, device: Device, notes: tuple[Diagnostic, ...] = ()
    ) -> None:
        """Made by ``planner.apply``; see there."""
        self.plan = plan
        self.schedule = schedule
        self.device = device
        self.execution_device = device.name
        self.notes = list(notes)
        self.last: Record | None = None
        self.observers: list[Observer] = []
        self.hooks: dict[str, ExitStack] = {}
        self.relays: dict[str, Relay] = {}
        self.undo = ExitStack()
        self.removed = False
        pinned = plan.budget.pinned
        self._pins = Pins(device.name, None if pinned is None else pinned.bytes)
        weakref.finalize(self, self._pins.close)
        course = schedule.course
        self._guide = Guide(course)
        self.headroom = Headroom(device, course.budget)
        self.capped = self.headroom.capped
        self.budget: int | None = None
        """Bytes that the driver may show for this process, for another plan beside this one."""
        self.group = group_of(device)
        self.group.join(self)
        self._lock = self.group.lock
        held = weakref.ref(self)

        def ready(name: str) -> None:
            if (session := held()) is not None:
                session.group.ready(session, name)

        self.aboard = Aboard(device, course, self._pins, self.headroom, ready)
        self.members = self.aboard.members
        self._calls = 0
        self._aside = 0

    # -- the public face

    def remove(self) -> None:
        """Gives the pipeline back as it was found, its weights on the CPU. Twice is once."""
        with self._lock:
            if self.removed:
                return
            self.removed = True
            self.capped = False
            for name in [*self.aboard.names]:
                self.aboard.evict(name)
            self.device.tidy()
            self.undo.close()
            if not self.group.living():
                self.device.cap(None)
            self.group.forget(self)
            self._pins.close()
            for member in self.members.values():
                member.master = None  # it holds the weights

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def report(self) -> Report:
        """Promised beside measured, for the last call; ``str()`` of it is a table.

        Raises RuntimeError when the pipeline has not been called yet.
        """
        if self.last is None:
            raise RuntimeError("the pipeline has not been called yet: there is nothing to report")
        measured = Measured(
            peak_weights=self.last.peak,
            moved=self.last.moved,
            seconds=self.last.seconds,
            total=self.last.total,
            departures=tuple(self.last.departures),
        )
        return report_of(self.schedule, self.plan, measured, describe_device(self.device.name))

    def resident(self) -> tuple[str, ...]:
        """The components on the device now, in the order in which they came."""
        return tuple(self.aboard.names)

    @contextmanager
    def call(self) -> Iterator[None]:
        """The scope of one call of the pipeline. Open it yourself around a loop of your own.

        Whatever ends it, what the plan wants gone between calls is gone afterwards. A second thread
        waits; a call inside a call joins it.
        """
        with self._lock:
            if self._calls == 0:
                self._open()
            self._calls += 1
            self.group.calling.append(self)
            try:
                yield
            except torch.OutOfMemoryError as error:
                self._explain(error)
                raise
            finally:
                self._calls -= 1
                self.group.calling.pop()
                if self._calls == 0:
                    # An interrupt inside a forward skips torch's forward hooks, so nobody called end().
                    for _ in self.aboard.running:
                        self._lock.release()
                    self.aboard.running.clear()
                    self._leave_scope()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside it, uses are visits that do not move the walk on (a preview from a step callback)."""
        self._aside += 1
        try:
            yield
        finally:
            self._aside -= 1

    @contextmanager
    def at_home(self, component: str | None = None) -> Iterator[None]:
        """Inside it the weights of ``component``, of all where there is none, are the host's tensors: to be
        read, changed or copied. They come to the device again when they are used; who is running stays."""
        with self._lock:
            for name in [*self.aboard.names] if component is None else [component]:
                if name in self.aboard.idle():
                    if self._calls:
                        self._departs(f"{name} was changed or copied")
                    self.aboard.evict(name)
            for name in self.members if component is None else [component]:
                self.group.send_home(self, name)
            yield

    # -- what the hooks call

    def begin(self, component: str, entry: str, given: Any) -> None:
        """``component`` is about to run, with ``given``: it is resident when this returns."""
        self._lock.acquire()
        try:
            outermost = component not in self.aboard.running
            if not self.aboard.running and not self._calls:
                self._open()
            if outermost:
                self._arrive(component, entry, given)
                if (bound := self.members[component].bound) is not None:
                    bound.listen(entry)
            self.aboard.running.append(component)
        except BaseException:
            if not self._calls and not self.aboard.running:
                self._leave_scope()
            self._lock.release()
            raise

    def end(self, component: str) -> None:
        """It ran, or failed. Outside a call this closes the scope of one use."""
        if not self.aboard.running or self.aboard.running[-1] != component:
            return  # begin() itself failed, or a call's end came first
        self.aboard.running.pop()
        if component not in self.aboard.running:
            if (bound := self.members[component].bound) is not None:
                bound.settle()
            if sys.exc_info()[0] is None and self.headroom.look(component):
                self._departs(f"{component} met the budget: a kernel may have been changed")
        if not self.aboard.running and not self._calls:
            self._leave_scope()
        self._lock.release()

    def arrive(self, component: str, entry: str) -> None:
        """``component`` is about to run, and nobody will say when it ends: all of it is there on return."""
        if component in self.aboard.running or self.removed:
            return
        self._arrive(component, entry)
        if (bound := self.members[component].bound) is not None:
            bound.heed()

    def _arrive(self, component: str, entry: str, given: Any = None) -> None:
        """Decides who leaves, makes ``component`` resident, writes it down. ``given``: None where nobody
        says what it runs with."""
        if self.removed:
            return
        member = self.members[component]
        stage, ahead = "", None
        if self._calls:
            decision = self._guide.enter(component, entry, self.aboard.names, aside=bool(self._aside))
            stage = decision.stage
            if self.aboard.record.at_stage(stage):
                self._tell("stage", stage)
            if decision.departure:
                self._departs(decision.departure)
            for name in decision.evict:
                self.aboard.evict(name, stage)
            ahead = decision.ahead
        incoming = self.aboard.incoming(member)
        self._yield(member, incoming, stage)
        # The host waits for what runs; where segments do not expand for all of the device, copies too.
        if self.headroom.enter(component, incoming):
            self.device.trim()
        if not member.here or member.early or incoming:
            self.aboard.load(member, stage, entry)
        if ahead is not None:
            self.aboard.load_early(*ahead, stage, beside=component)
        # Enough for it to run, at first; in a loop the rest goes at the next step, while the device computes.
        claim = None
        if given is not None and not self.aboard.used(component):
            claim = self.headroom.claim(component, likeness(member.module, entry, given))
        self.device.tidy(claim)
        self.aboard.write("use", component, entry, stage)
        self._tell("use", component)

    def give_way(self, component: str) -> bool:
        """``component`` ran out of memory. True when less will lie on the device when it runs next."""
        member = self.members[component]
        if component in self.aboard.running or self.removed or member.whole or member.left:
            return False
        if self.device.tidy():
            return True
        held = member.held(self.headroom) or 0
        self.headroom.short(component)
        before = self.device.own
        self._yield(member, self.aboard.incoming(member), "")
        less = (member.held(self.headroom) or 0) < held and not member.fixed
        if less and member.here:
            self.aboard.evict(component)
        if less or self.device.own < before:
            self._departs(f"{component} ran out of memory, and again with less to stay")
            return True
        return False

    def heed(self, component: str) -> bool:
        """``component`` failed. True when it may have met weights that were not there: its modules are all
        watched from now on."""
        member = self.members[component]
        if member.heedful or component in self.aboard.running:
            return False
        member.heed()
        return True

    def _yield(self, member: Member, incoming: int, stage: str) -> None:
        """Who is not needed now gives way, in part or whole, where the activations of ``member`` and its
        ``incoming`` bytes would not fit beside them."""
        spare = [n for n in self._guide.spare(member.name, self.aboard.names) if n not in self.aboard.running]
        for give in (self.aboard.shed, lambda name, _: self.aboard.evict(name, stage)):
            for name in spare:
                if not (lack := self.headroom.lack(member.name, incoming)):
                    return
                give(name, lack)

    def recast(self, component: str, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """``module._apply(fn)``: a change of dtype is done to the host's tensors, a move is refused.

        Pipelines move components themselves now and then (``self.safety_checker.to(device)``): to
        the execution device inside a call that is a use, and back to the CPU an eviction.
        """
        member = self.members[component]
        moved_to = _destination(fn)
        if member.moving:
            return True
        if moved_to.type not in ("cpu", self.execution_device.type) or (
            moved_to.type != "cpu" and not self._calls
        ):
            problem = finding(
                MOVE_REFUSED,
                f'"{component}" is under plan "{self.schedule.plan}" and was asked to move to "{moved_to}"',
                hint="session.remove() gives it back",
            )
            raise PlanError([problem])
        if moved_to.type == "cpu":
            if member.here and not member.left and member.unmoved_by(fn, self.execution_device):
                return False
            if member.here and not member.left:
                if self._calls:
                    self._departs(f"{component} was cast or moved")
                self.aboard.evict(component)
            return not member.here
        self.arrive(component, "")
        return False

    # -- what other sessions on the device ask

    def runs(self, name: str) -> bool:
        """Whether ``name`` is running under this session."""
        return name in self.aboard.running

    # -- moves

    def dismiss(self, name: str) -> None:
        """A component that the pipeline has no more: it is as it was found."""
        if name in self.aboard.names:
            self.aboard.evict(name)
        self.hooks.pop(name).close()
        self.members.pop(name).master = None

    def place(self, member: Member) -> None:
        """Loads a component that stays."""
        self.aboard.load(member, "")
        if member.bound is not None:
            member.bound.settle()

    def prepare(self, member: Member) -> None:
        """Packs and registers a component's host memory, so that no call has to."""
        member.prepare(self._pins)

    # -- the scope

    def _open(self) -> None:
        self._guide.start()
        self.group.begin(self)
        self.aboard.begin()

    def _leave_scope(self) -> None:
        in_call = self.aboard.record.events and any(e.stage for e in self.aboard.record.events)
        for name in self._guide.finish(tuple(self.aboard.names)):
            self.aboard.evict(name)
        self.device.tidy()
        self.aboard.record.finish()
        self.headroom.end()
        if in_call:
            self.aboard.record.departures += [f"{name} did not run" for name in self._guide.skipped()]
        self.last = self.aboard.record
        if self.schedule.course.idle is Idle.RELEASE:
            self._return_memory()

    def _return_memory(self) -> None:
        """To the driver, not only to torch's allocator: another process may need it."""
        module = torch.get_device_module(self.execution_device)
        if hasattr(module, "empty_cache"):
            module.empty_cache()

    def _departs(self, how: str) -> None:
        self.aboard.record.departures.append(how)

    def _tell(self, what: str, name: str) -> None:
        for observer in self.observers:
            observer(what, name)

    def _explain(self, error: torch.OutOfMemoryError) -> None:
        """Code, plan, stage, component and what would help, as a note on torch's own error."""
        uses = [e for e in self.aboard.record.events if e.do == "use"]
        running = uses[-1].component if uses else "nothing yet"
        stage = uses[-1].stage if uses else ""
        held = ", ".join(f"{n} {gib(self.aboard.nbytes(n))}" for n in self.aboard.names) or "nothing"
        line = next((s.origin for s in self.schedule.steps if s.component == running), None)
        place = f"{line.file}:{line.line}: " if line else ""
        error.add_note(
            f'{place}out of memory in stage "{stage}" at "{running}"; on the device: {held} [{OUT_OF_MEMORY}]'
        )


def _destination(fn: Callable[[torch.Tensor], torch.Tensor]) -> torch.device:
    """Where ``fn`` would put a host tensor: asked with an empty one."""
    with torch.no_grad():
        return fn(torch.empty(0)).device
