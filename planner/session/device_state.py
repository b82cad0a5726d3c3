"""Who runs on one device: calls, scopes and uses, the locks that they hold, and how what an interrupt left is
put right. What is on the device is its ``Residency``'s.

Locks. ``lock`` is held for each use of a component and each change of the state, ``call_lock`` for each call
of a pipeline; both by ``with`` on a lock of C, which an interrupt cannot leave behind. ``call_lock`` is taken
first. A scope (``Session.call``) is an entry in ``scopes`` and holds no lock, so that any thread may go on
with it or close it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from planner.device.protocol import Device
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import DEVICE_BUSY
from planner.session.applied import Applied
from planner.session.component import ManagedComponent
from planner.session.onload import begin_scope, onload
from planner.session.residency import Residency, Use

PATIENCE = 60.0
"""Seconds that a call waits for another that runs nothing: that one may be waiting for this one."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Scope:
    """A call of a pipeline, or a scope that its user opened. ``thread``: that of a call; None for a scope
    that any thread may use, which is over when its ``token`` is gone."""

    applied: Applied
    thread: int | None
    token: Callable[[], object] = field(default=lambda: True)


def _entering(
    method: Callable[Concatenate[DeviceState, _P], _T],
) -> Callable[Concatenate[DeviceState, _P], _T]:
    """A method that is called from outside: by ``DeviceState.entered``."""

    @wraps(method)
    def entering(self: DeviceState, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.entered(partial(method, self, *args, **kwargs))

    return entering


class DeviceState:
    """One for each device, for all plans on it.

    Invariants, whenever ``lock`` is free, beside those of ``Residency``:
        - a scope whose owner is gone (its call ended, its token was dropped) is closed by the next one that
          enters;
        - ``closing`` has what was begun and not ended: leaving a scope, removing a plan. The next one that
          enters ends it.
    """

    def __init__(self, device: Device) -> None:
        """Nothing runs."""
        self.device = device
        self.residency = Residency(device)
        self.lock = threading.RLock()
        self.call_lock = threading.RLock()
        self.scopes: list[Scope] = []
        self.closing: list[Callable[[], None]] = []
        self._active = time.monotonic()

    # -- entering

    def entered(self, function: Callable[..., _T], *args: Any) -> _T:
        """``function(*args)`` with ``lock`` held, once what an interrupt left is put right: the one way
        in."""
        nested = bool(self.lock._is_owned())  # type: ignore[attr-defined]
        with self.lock:
            if not nested:
                self.recover()
            return function(*args)

    def is_locked(self) -> bool:
        """Whether any thread holds ``lock``."""
        return _is_locked(self.lock)

    def recover(self) -> None:
        """What an interrupt left is put right. With ``lock`` held by one that just took it: nothing runs."""
        left = {id(use.applied): use.applied for use in self.residency.running if use.applied is not None}
        self.closing += [partial(self._leave, applied) for applied in left.values()]
        self.residency.recover()
        self.finish()
        for scope in [*self.scopes]:
            if self._is_over(scope):
                self.close(scope)

    def recovered(self) -> bool:
        """``recover`` from outside, unless a thread holds ``lock``: then False, and it is for the next one
        that enters."""
        if self.is_locked():
            return False
        with self.lock:
            self.recover()
        return True

    def finish(self) -> None:
        """What was begun to be closed is closed: each step may be taken twice, and is forgotten once it
        returned. One that fails is taken again at once, and its error goes on after the last one: there may
        be nobody who would enter next. One that fails again is left for who does."""
        failed: BaseException | None = None
        while self.closing:
            step = self.closing[-1]
            try:
                step()
            except BaseException as error:
                failed = error
                step()  # in here, where ``release_locals`` finds what the error keeps
            if step in self.closing:
                self.closing.remove(step)
        try:
            if failed is not None:
                raise failed
        finally:
            del failed

    # -- calls and scopes

    def call(self, applied: Applied, before: Callable[[], None], function: Callable[[], _T]) -> _T:
        """``function()`` as a call of the pipeline, after ``before()``. A second one waits for the first, or
        raises PlanError (P733) where the first waits for it."""

        def work() -> _T:
            scope = Scope(applied, threading.get_ident())
            try:
                self.open(scope, before)
                return function()
            except torch.OutOfMemoryError as error:
                applied.explain(error)
                raise
            finally:
                self.close(scope)

        return self.between_calls(work)

    def between_calls(self, function: Callable[..., _T], *args: Any) -> _T:
        """``function(*args)`` while no other thread is in a call. Raises PlanError (P733) where another stays
        in one, and runs nothing for long."""
        nested = self.call_lock._is_owned()  # type: ignore[attr-defined]
        while not nested and _is_locked(self.call_lock):
            if not self.residency.running and time.monotonic() - self._active > PATIENCE:
                said = f"another call on {self.device.name} has run nothing for {PATIENCE:.0f} seconds"
                hint = "is it waiting for this one? call the pipeline from one thread"
                raise PlanError([finding(DEVICE_BUSY, said, hint=hint)])
            time.sleep(0.002)
        with self.call_lock:
            if not nested:  # whose scope is still there was interrupted: the next that enters closes it
                self.scopes = [other if other.thread is None else _gone(other) for other in self.scopes]
            return function(*args)

    @_entering
    def open(self, scope: Scope, before: Callable[[], None]) -> None:
        """A scope begins, the outermost of its plan after ``before()``."""
        outermost = not self.in_scope(scope.applied)
        self.scopes.append(scope)
        before()
        if outermost:
            begin_scope(self.residency, scope.applied)

    @_entering
    def close(self, scope: Scope) -> None:
        """It is over, by any thread; what its plan wants away between calls is away. Twice is once."""
        self.closing.append(partial(self._leave, scope.applied))
        if scope in self.scopes:
            self.scopes.remove(scope)
        self.finish()

    def in_scope(self, applied: Applied) -> bool:
        """Whether a call of its pipeline goes on, or a scope that its user opened."""
        return any(scope.applied is applied for scope in self.scopes)

    def charged(self, component: ManagedComponent) -> tuple[Applied, str] | None:
        """The plan under which a component runs now: that of the innermost scope that has it, else the first
        that it came under; and its name there."""
        for applied in (*(scope.applied for scope in reversed(self.scopes)), *self.residency.applied):
            if not applied.removed and (name := applied.name_of(component)) is not None:
                return applied, name
        return None

    def _leave(self, applied: Applied) -> None:
        """The end of a scope, if it was the outermost of its plan."""
        if not self.in_scope(applied) and not self.residency.runs(applied):
            self.residency.end(applied)
            if applied.removing:
                applied.remove()

    def _is_over(self, scope: Scope) -> bool:
        """Whether nobody would close it: a call's lock is free, or the caller's to take again; a token
        died."""
        if scope.thread is None:
            return scope.token() is None
        return not _is_locked(self.call_lock)

    # -- uses

    def use(self, component: ManagedComponent, entry: str, given: Any, function: Callable[[], _T]) -> _T:
        """``function()`` with ``component`` on the device. To be called with ``lock`` held."""
        use = Use(component, entry)
        failed = True
        try:
            self.begin(use, given)
            result = function()
            failed = False
            return result
        finally:
            self.end(use, failed=failed)

    def begin(self, use: Use, given: Any = None) -> None:
        """A use begins: the component is on the device when this returns. ``given``: its arguments."""
        component, running = use.component, self.residency.running
        again = component in self.residency.running_components()
        found = self.charged(component)
        if found is None or component.module is None:
            return
        applied, _ = found
        first = not self.in_scope(applied) and not self.residency.runs(applied)
        use.applied = applied
        running.append(use)
        self._active = time.monotonic()
        if again:
            return
        if first:
            begin_scope(self.residency, applied)
        self._onload(*found, use.entry, given)
        wanted = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        component.run(use.entry, gradients=wanted and not self.residency.stays(component))

    def end(self, use: Use, *, failed: bool = False) -> None:
        """It has ended, whatever happened in it. Outside of a scope this is the end of a scope of one use."""
        component, applied, running = use.component, use.applied, self.residency.running
        if use not in running:
            return
        try:
            if not failed and self.residency.running_components().count(component) == 1:
                component.stop()
                if applied is not None and self.residency.activations.observe(component, use.entry):
                    applied.departs(f"{component.label} met the budget: a kernel may have been changed")
                if applied is not None and (name := applied.name_of(component)) is not None:
                    applied.tell("end", name)
        finally:
            self._active = time.monotonic()
            if applied is not None:
                self.closing.append(partial(self._leave, applied))
            del running[running.index(use) :]
            if component not in self.residency.running_components():
                component.rest()
            self.finish()

    @_entering
    def touch(self, component: ManagedComponent, entry: str = "") -> None:
        """A component is about to run, and nothing will say when it ends: all of it is there on return."""
        found = self.charged(component)
        if component in self.residency.running_components() or found is None:
            return
        self._onload(*found, entry)
        component.hook_every_module()

    @_entering
    def at_home(self, components: Iterable[ManagedComponent], function: Callable[[], _T]) -> _T:
        """``function()`` while the weights of ``components`` are the host's tensors: to be read, changed or
        copied. They come to the device again when they are used; what runs stays."""
        for component in components:
            self.evict_idle(component, "was changed or copied")
        return function()

    def at_home_all(self, applied: Applied, function: Callable[[], _T]) -> _T:
        """As ``at_home``, for all components of a plan, and while no other thread is in a call."""
        return self.between_calls(lambda: self.at_home([*applied.components.values()], function))

    def evict_idle(self, component: ManagedComponent, why: str) -> None:
        """A component leaves the device if it does not run; inside of a scope that is a departure."""
        if component in self.residency.running_components() or not component.on_device:
            return
        found = self.charged(component)
        if found is None:
            component.offload()
            return
        applied, name = found
        if self.in_scope(applied):
            applied.departs(f"{name} {why}")
        self.residency.evict(applied, name)

    def _onload(self, applied: Applied, name: str, entry: str, given: Any = None) -> None:
        scope = next((s for s in reversed(self.scopes) if s.applied is applied), None)
        decision = None
        if scope is not None:
            visit = scope.thread not in (None, threading.get_ident())
            decision = applied.decide(name, entry, visit=visit)
        onload(self.residency, applied, name, entry, decision, given)


def _gone(scope: Scope) -> Scope:
    """The same, with nobody who would close it."""
    return Scope(scope.applied, None, lambda: None)


def _is_locked(lock: Any) -> bool:
    """Whether any thread holds an RLock, which tells only since Python 3.14."""
    return bool(lock.locked()) if hasattr(lock, "locked") else "unlocked" not in repr(lock)
