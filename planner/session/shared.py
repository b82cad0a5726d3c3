"""Sessions on one device: one lock, one budget, and each component once, whichever pipeline runs.

``from_pipe`` makes a second pipeline out of the components of a first. Both may be under plans: a component
has one set of hooks, which speak to the session that runs; it lies on the device once, and whoever runs
next takes it over; its host memory is laid out once.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p7_session import BUDGET_DIFFERS
from planner.plan.model import Plan
from planner.schedule.fit import gib
from planner.session.machine import Room, room

if TYPE_CHECKING:
    from planner.session.headroom import Headroom
    from planner.session.member import Member
    from planner.session.session import Session

_groups: weakref.WeakKeyDictionary[Device, Group] = weakref.WeakKeyDictionary()


class Group:
    """The sessions on one device, the first applied first."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calling: list[Session] = []
        """Those in a call, the outermost first."""
        self._sessions: list[weakref.ref[Session]] = []

    def join(self, session: Session) -> None:
        """Until ``session`` is removed or gone."""
        self._sessions.append(weakref.ref(session))

    def living(self) -> list[Session]:
        """Those that hold."""
        found = (ref() for ref in self._sessions)
        return [session for session in found if session is not None and not session.removed]

    def begin(self, session: Session) -> None:
        """``session`` is about to run: what it shares is its own, and the others make room for the rest."""
        others = [other for other in self.living() if other is not session]
        for other in others:
            for name in [*other.aboard.names]:
                self._pass_on(other, name, session)
        budget, peak = session.schedule.course.budget, session.schedule.peak
        if budget is None:
            return
        spare = 0 if peak is None else budget - peak
        held = [(other.members[n].fixed, other, n) for other in others for n in other.aboard.idle()]
        for _, other, name in sorted(held, key=lambda h: h[0]):
            if sum(o.aboard.nbytes(n) for _, o, n in held if n in o.aboard.names) > spare:
                other.aboard.evict(name)

    def ready(self, session: Session, name: str) -> None:
        """``name`` is about to be loaded by ``session``: it lies nowhere else, and its layout is known."""
        module = session.members[name].module
        for other, theirs in self._others(session, module):
            member = other.members[theirs]
            if theirs in other.aboard.idle():
                self._pass_on(other, theirs, session)
            mine = session.members[name]
            if mine.here or member.master is None or mine.master is member.master or module is None:
                continue
            if not member.master.stale(module):
                mine.master = member.master

    def forget(self, session: Session) -> None:
        """``session`` is removed, and with it the host memory that it registered: others do it again."""
        for mine in session.members.values():
            for other, theirs in self._others(session, mine.module):
                if theirs not in other.aboard.names and other.members[theirs].master is mine.master:
                    other.members[theirs].master = None

    def send_home(self, session: Session, name: str) -> None:
        """Whoever else has ``name`` of ``session`` on the device lets it go."""
        for other, theirs in self._others(session, session.members[name].module):
            if theirs in other.aboard.idle():
                other.aboard.evict(theirs)

    def _others(self, session: Session, module: Any) -> list[tuple[Session, str]]:
        return [
            (other, name)
            for other in self.living()
            if other is not session and module is not None
            for name, member in other.members.items()
            if member.module is module
        ]

    def _pass_on(self, giver: Session, name: str, taker: Session) -> None:
        """The component changes hands: as it lies there if all of it does and is wanted, else from home."""
        if name not in giver.aboard.idle():
            return
        member = giver.members[name]
        for theirs, other in taker.members.items():
            if other.module is member.module and not other.here:
                if _takes(other, member, taker.headroom):
                    giver.aboard.let_go(name)
                    taker.aboard.names.append(theirs)
                else:
                    giver.aboard.evict(name)
                return


def _takes(taker: Member, giver: Member, headroom: Headroom) -> bool:
    """The same component under another plan, as it lies there, if both want all of it there."""
    if taker.whole or taker.left or giver.bound is None or giver.master is None:
        return False
    taker.master = giver.master
    if {giver.bound.nbytes, taker.held(headroom)} != {giver.master.nbytes}:
        return False
    taker.bound, giver.bound = giver.bound, None
    taker.here, giver.here = True, False
    return True


def group_of(device: Device) -> Group:
    """The sessions on ``device``."""
    return _groups.setdefault(device, Group())


def device_of(name: torch.device) -> Device | None:
    """The way to a device by which a session goes already."""
    return next((d for d, group in _groups.items() if d.name == name and group.living()), None)


def agreed(
    plan: Plan, pipe: Any, device: Device, budget: int | None
) -> tuple[Room, tuple[Diagnostic, ...]] | None:
    """The room that other pipelines' plans on the device agreed on; None where there are none.

    Raises PlanError for a plan with a budget of its own, unless ``budget`` is theirs.
    """
    from planner.session.scope import session_of

    def first() -> Session | None:
        return next((s for s in group_of(device).living() if s is not session_of(pipe)), None)

    said, there = plan.budget.vram, room(plan, device.name)[0]
    if (other := first()) is None:
        return None
    if said is not None and budget is None and said.of(there.total) != other.budget:
        gc.collect()  # a pipeline that was deleted may still be there
        if (other := first()) is None:
            return None
        known = "none" if other.budget is None else gib(other.budget)
        problem = finding(
            BUDGET_DIFFERS,
            f'the plan says budget.vram {said.text}, and the budget of plan "{other.schedule.plan}", which '
            f"is on the same device, is {known}",
            span=plan.place("/budget/vram"),
            pointer="/budget/vram",
            hint="planner.apply(..., budget=session.budget)",
        )
        raise PlanError([problem], plan.document.sources)
    return replace(there, budget=other.budget), ()


class Relay:
    """Between the hooks on a component and the sessions that it is under: each hears of its own uses."""

    def __init__(self, device: Device, group: Group) -> None:
        self.device = device
        self.execution_device = device.name
        self.undo = ExitStack()
        self._group = group
        self._under: list[tuple[weakref.ref[Session], str]] = []
        self._open: list[tuple[Session, str]] = []

    def join(self, session: Session, name: str) -> Callable[[], None]:
        """The component is ``name`` of ``session``. Returns what ends it; the last takes the hooks off."""
        entry = (weakref.ref(session), name)
        self._under.append(entry)

        def leave() -> None:
            self._under.remove(entry)
            if not self._under:
                self.undo.close()

        return leave

    @property
    def capped(self) -> bool:
        """Of the session in charge."""
        found = self._charge()
        return found is not None and found[0].capped

    def begin(self, _: str, entry: str, given: Any) -> None:
        """As ``Watcher.begin``, for the session in charge."""
        found = self._charge()
        if found is not None:
            found[0].begin(found[1], entry, given)
            self._open.append(found)

    def end(self, _: str) -> None:
        """As ``Watcher.end``, for the session that was told of the beginning."""
        if self._open:
            session, name = self._open.pop()
            session.end(name)

    def arrive(self, _: str, entry: str) -> None:
        """As ``Watcher.arrive``."""
        if (found := self._charge()) is not None:
            found[0].arrive(found[1], entry)

    def recast(self, _: str, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """As ``Watcher.recast``, for the session that has it on the device."""
        found = self._holder() or self._charge()
        return found is None or found[0].recast(found[1], fn)

    @contextmanager
    def at_home(self, _: str) -> Iterator[None]:
        """As ``Watcher.at_home``."""
        found = self._charge()
        inside: AbstractContextManager[Any] = ExitStack() if found is None else found[0].at_home(found[1])
        with inside:
            yield

    def give_way(self, _: str) -> bool:
        """As ``Giver.give_way``."""
        found = self._charge()
        return found is not None and found[0].give_way(found[1])

    def heed(self, _: str) -> bool:
        """As ``Giver.heed``."""
        found = self._charge()
        return found is not None and found[0].heed(found[1])

    def _sessions(self) -> list[tuple[Session, str]]:
        found = ((ref(), name) for ref, name in self._under)
        return [(session, name) for session, name in found if session is not None and not session.removed]

    def _holder(self) -> tuple[Session, str] | None:
        return next(((s, n) for s, n in self._sessions() if s.members[n].here), None)

    def _charge(self) -> tuple[Session, str] | None:
        """Who runs it now; else the innermost call that has it; else the first plan that it came under."""
        under = self._sessions()
        for session, name in under:
            if session.runs(name):
                return session, name
        for session in reversed(self._group.calling):
            for other, name in under:
                if other is session:
                    return other, name
        return under[0] if under else None
