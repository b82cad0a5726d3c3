"""Who is on the device: how components come, some of them early, and leave, and what is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.schedule.model import Course
from planner.session.headroom import Headroom
from planner.session.member import Member
from planner.session.record import Event, Record


class Aboard:
    """``members`` by name, and the ``names`` of those on the device in the order in which they came;
    ``running`` have begun and not ended, the innermost last; ``record``: of the call that goes on."""

    def __init__(
        self, device: Device, course: Course, pins: Pins, headroom: Headroom, ready: Callable[[str], None]
    ) -> None:
        """``ready`` is called with a component's name before it is brought: another pipeline may have it."""
        self.members: dict[str, Member] = {}
        self.names: list[str] = []
        self.running: list[str] = []
        self.record = Record()
        self._used: set[str] = set()
        self._device = device
        self._course = course
        self._pins = pins
        self._headroom = headroom
        self._ready = ready

    def begin(self) -> None:
        """A call begins, or a use outside of one."""
        self.record = Record()
        self._used = set()
        self._headroom.begin()
        self.record.peak = sum(map(self.nbytes, self.names))

    def idle(self) -> tuple[str, ...]:
        """The components on the device that do not run."""
        return tuple(name for name in self.names if name not in self.running)

    def used(self, name: str) -> bool:
        """Whether ``name`` has run in the call that goes on."""
        return name in self._used

    def nbytes(self, name: str) -> int:
        """Bytes that ``name`` holds on the device, or would."""
        bound = self.members[name].bound
        return bound.nbytes if bound is not None else self._course.size(name)

    def incoming(self, member: Member) -> int:
        """Bytes that are still to come, for it to run. What is there may grow when it is used first."""
        if member.here and not member.early and (member.bound is None or self.used(member.name)):
            return 0
        size = member.incoming(self._headroom)
        return self._course.size(member.name) if size is None else size

    def load(self, member: Member, stage: str, entry: str = "") -> None:
        """All of it is on the device, to run through ``entry``. Raises torch's OutOfMemoryError."""
        if member.module is None:
            return
        if not member.here:
            self._ready(member.name)
            if member.here:
                return  # taken over from another pipeline's plan
        try:
            self._bring(member, entry)
        except torch.OutOfMemoryError:
            # The budget is a law: whoever is not running makes room, then once more.
            for name in [name for name in self.idle() if not self.members[name].fixed]:
                self.evict(name, stage)
            self._bring(member, entry)
        self._came(member, stage)

    def load_early(self, name: str, nbytes: int, stage: str, *, beside: str) -> None:
        """The first ``nbytes`` of ``name`` come while ``beside`` runs, if nobody must make room for them."""
        member = self.members.get(name)
        if member is None or member.module is None or member.here or member.whole:
            return
        self._ready(name)
        if member.here or self._headroom.lack(beside, nbytes):
            return
        try:
            member.bring(self._device, self._pins, self._headroom, self._count, early=nbytes)
        except torch.OutOfMemoryError:
            return  # it comes when it runs
        self._came(member, stage)

    def evict(self, name: str, stage: str = "") -> None:
        """It leaves: to make room, or because it was changed."""
        self.write("evict", name, "", stage)
        self.names.remove(name)
        self.members[name].leave()

    def shed(self, name: str, nbytes: int) -> None:
        """So much of it leaves, as far as it can do without; it comes back when it runs."""
        if (bound := self.members[name].bound) is not None and not bound.early:
            bound.shed(nbytes)

    def let_go(self, name: str) -> None:
        """It stays on the device and is another plan's from now on."""
        self.write("evict", name, "", "")
        self.names.remove(name)

    def write(self, do: Any, name: str, entry: str, stage: str) -> None:
        """Into the record of the call."""
        if do == "use":
            self._used.add(name)
        self.record.events.append(Event(do, name, entry, stage, self.nbytes(name)))

    def _bring(self, member: Member, entry: str) -> None:
        if member.bound is not None:
            member.complete(self._headroom)
            return
        member.bring(self._device, self._pins, self._headroom, self._count, entry)
        if member.whole:
            self._count(self.nbytes(member.name))

    def _came(self, member: Member, stage: str) -> None:
        if member.name not in self.names:
            self.names.append(member.name)
        self.write("load", member.name, "", stage)
        self.record.peak = max(self.record.peak, sum(map(self.nbytes, self.names)))

    def _count(self, nbytes: int) -> None:
        self.record.moved += nbytes
