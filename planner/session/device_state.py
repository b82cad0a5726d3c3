"""What one device holds, for all plans on it: the only owner of components, memory, budget and of who runs.

Two pipelines that share components are two ``Applied`` on one state: a component is on the device once,
whichever pipeline runs, and nothing is handed over between them.

Locks. ``lock`` is held for each use of a component and each change of the state, ``call_lock`` for each call
of a pipeline; both by ``with`` on a lock of C, which an interrupt cannot leave behind. ``call_lock`` is taken
first. A scope (``Session.call``) is an entry in ``scopes`` and holds no lock, so that any thread may go on
with it or close it.

Invariants, whenever ``lock`` is free:
    - ``running`` is empty: what a thread that was interrupted left there is removed by the next one that
      enters;
    - no component is ``RUNNING``, ``unfinished`` or ``changing``, or the next one that enters offloads it
      (``recover``);
    - a scope whose owner is gone (its call ended, its token was dropped) is closed by the next one that
      enters;
    - ``closing`` has what was begun and not ended: leaving a scope, removing a plan. The next one that enters
      ends it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import DEVICE_BUSY, MOVE_REFUSED
from planner.session.activations import ActivationEstimate
from planner.session.applied import Applied
from planner.session.component import ManagedComponent, State
from planner.session.home import bring_home
from planner.session.signature import signature

PATIENCE = 60.0
"""Seconds that a call waits for another that runs nothing: that one may be waiting for this one."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_states: weakref.WeakValueDictionary[int, DeviceState] = weakref.WeakValueDictionary()
"""By ``id`` of the device, which they hold."""
applying: set[DeviceState] = set()
"""Those on which a plan is being applied, or where that was interrupted and its undoing too: it may be that
nothing else refers to them."""


@dataclass(slots=True, eq=False)
class Use:
    """A component runs. ``applied``: the plan that it runs under."""

    component: ManagedComponent
    entry: str
    applied: Applied | None = None


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
    """See the head of this file."""

    def __init__(self, device: Device) -> None:
        """Holds nothing."""
        self.device = device
        self.lock = threading.RLock()
        self.call_lock = threading.RLock()
        self.pins = Pins(device.name)
        self.activations = ActivationEstimate(device, None)
        self.applied: list[Applied] = []
        self.components: dict[int, ManagedComponent] = {}
        self.scopes: list[Scope] = []
        self.running: list[Use] = []
        self.closing: list[Callable[[], None]] = []
        self._arrivals = 0
        self._capped = False
        """Whether the device may have been told of a budget."""
        self._active = time.monotonic()

    # -- plans and components

    @_entering
    def join(self, applied: Applied) -> None:
        """A plan comes to this device. The first one's budget is the device's."""
        if not self.applied:
            budget = applied.schedule.course.budget
            self._capped = budget is not None  # before the device is told
            self.activations = ActivationEstimate(self.device, budget)
            pinned = applied.plan.budget.pinned
            self.pins.limit = None if pinned is None else pinned.bytes
        self.applied.append(applied)

    def leave(self, applied: Applied) -> None:
        """A plan goes: its components that no other plan has are away, and not ours any more. Twice is
        once."""
        with self.lock:
            if applied in self.applied:
                self.applied.remove(applied)
            self.scopes = [scope for scope in self.scopes if scope.applied is not applied]
            for name in [*applied.components]:
                self.dismiss(applied, name)
            self.device.release_freed()
            self.pins.release_but(c.host for c in self.components.values() if c.host is not None)
            if not self.applied and self._capped:
                self.device.cap(None)
                self._capped = self.activations.capped = False

    def manage(self, module: torch.nn.Module, label: str, *, left_in_place: bool) -> ManagedComponent:
        """The component that ``module`` is, whichever plan asks."""
        found = self.components.get(id(module))
        if found is None or found.module is not module:
            found = ManagedComponent(
                module, label, self.device, self.pins, self.activations, left_in_place=left_in_place
            )
            self.components[id(module)] = found
        return found

    def dismiss(self, applied: Applied, name: str) -> None:
        """A plan has a component no more: it is on the host, unless another plan has it too."""
        component = applied.components[name]
        if not any(other.name_of(component) for other in self.applied if other is not applied):
            component.offload()
            bring_home(component, self.device.name)
            component.undo.close()
            if component.host is not None:
                self.pins.release(component.host)
                component.host = None
            self.components = {key: c for key, c in self.components.items() if c is not component}
        elif component.placed_by is applied:
            component.offload()
        applied.components.pop(name, None)  # last: after an interrupt it begins again

    def running_components(self) -> list[ManagedComponent]:
        """Those with a use that has begun and not ended."""
        return [use.component for use in self.running]

    def charged(self, component: ManagedComponent) -> tuple[Applied, str] | None:
        """The plan under which a component runs now: that of the innermost scope that has it, else the first
        that it came under; and its name there."""
        for applied in (*(scope.applied for scope in reversed(self.scopes)), *self.applied):
            if not applied.removed and (name := applied.name_of(component)) is not None:
                return applied, name
        return None

    # -- entering

    def entered(self, function: Callable[..., _T], *args: Any) -> _T:
        """``function(*args)`` with ``lock`` held, once what an interrupt left is put right: the one way
        in."""
        nested = bool(self.lock._is_owned())  # type: ignore[attr-defined]
        with self.lock:
            self.recover(nested)
            return function(*args)

    def is_locked(self) -> bool:
        """Whether any thread holds ``lock``."""
        return _is_locked(self.lock)

    def recover(self, nested: bool) -> None:
        """To be called first with ``lock`` held. ``nested``: the thread held it already. If not, nothing
        runs, and what an interrupt left is put right."""
        if nested:
            return
        left = {id(use.applied): use.applied for use in self.running if use.applied is not None}
        self.closing += [_Finish(self, applied) for applied in left.values()]
        self.running.clear()
        for component in [*self.components.values()]:
            component.recover()
        for key in [key for key, component in self.components.items() if component.module is None]:
            self.components.pop(key, None)
        self.finish()
        for scope in [*self.scopes]:
            if self._is_over(scope):
                self.close(scope)

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

    def call(self, applied: Applied, before: Callable[[], None], function: Callable[[], _T]) -> _T:
        """``function()`` as a call of the pipeline, after ``before()``. A second one waits for the first, or
        raises PlanError (P733) where the first waits for it."""
        nested = self.wait_for_call()
        with self.call_lock:
            scope = Scope(applied, threading.get_ident())
            try:
                self.disown_calls(nested)
                self.open(scope, before)
                return function()
            except torch.OutOfMemoryError as error:
                applied.explain(error)
                raise
            finally:
                self.close(scope)

    def disown_calls(self, nested: bool) -> None:
        """To be called first with ``call_lock`` held. ``nested``: the thread held it already. If not, no call
        goes on: whose scope is still there was interrupted, and the next that enters closes it."""
        if not nested:
            self.scopes = [other if other.thread is None else _gone(other) for other in self.scopes]

    @_entering
    def open(self, scope: Scope, before: Callable[[], None]) -> None:
        """A scope begins, the outermost of its plan after ``before()``."""
        applied = scope.applied
        outermost = not self.in_scope(applied)
        self.scopes.append(scope)
        before()
        if outermost:
            self._begin(applied)

    @_entering
    def close(self, scope: Scope) -> None:
        """It is over, by any thread; what its plan wants away between calls is away. Twice is once."""
        self.closing.append(_Finish(self, scope.applied))
        if scope in self.scopes:
            self.scopes.remove(scope)
        self.finish()

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
        """A use begins: the component is on the device when this returns."""
        component = use.component
        again = component in self.running_components()
        found = self.charged(component)
        if found is None or component.module is None:
            return
        applied, name = found
        first = not self.in_scope(applied) and not self._runs(applied)
        use.applied = applied
        self.running.append(use)
        self._active = time.monotonic()
        if again:
            return
        if first:
            self._begin(applied)
        self._onload(applied, name, use.entry, given)
        wanted = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        component.run(use.entry, gradients=wanted and not self._stays(component))

    def end(self, use: Use, *, failed: bool = False) -> None:
        """It has ended, whatever happened in it. Outside of a scope this is the end of a scope of one use."""
        component, applied = use.component, use.applied
        if use not in self.running:
            return
        try:
            if not failed and self.running_components().count(component) == 1:
                component.stop()
                if applied is not None and self.activations.observe(component):
                    applied.departs(f"{component.label} met the budget: a kernel may have been changed")
                if applied is not None and (name := applied.name_of(component)) is not None:
                    applied.tell("end", name)
        finally:
            self._active = time.monotonic()
            if applied is not None:
                self.closing.append(_Finish(self, applied))
            del self.running[self.running.index(use) :]
            if component not in self.running_components():
                component.rest()
            self.finish()

    @_entering
    def touch(self, component: ManagedComponent, entry: str = "") -> None:
        """A component is about to run, and nothing will say when it ends: all of it is there on return."""
        found = self.charged(component)
        if component in self.running_components() or found is None:
            return
        self._onload(*found, entry)
        component.hook_every_module()

    @_entering
    def at_home(self, components: Iterable[ManagedComponent], function: Callable[[], _T]) -> _T:
        """``function()`` while the weights of ``components`` are the host's tensors: to be read, changed or
        copied. They come to the device again when they are used; what runs stays."""
        for component in components:
            self._evict_idle(component, "was changed or copied")
        return function()

    def at_home_all(self, applied: Applied, function: Callable[[], _T]) -> _T:
        """As ``at_home``, for all components of a plan, and while no other thread is in a call."""
        nested = self.wait_for_call()
        with self.call_lock:
            self.disown_calls(nested)
            return self.at_home([*applied.components.values()], function)

    # -- moves

    def evict(self, applied: Applied, name: str, stage: str = "") -> None:
        """A component leaves the device: to make room, or because it was changed."""
        component = applied.components[name]
        if component.on_device:
            applied.write("evict", name, "", stage)
            component.offload()

    def place(self, applied: Applied, name: str) -> None:
        """Onloads a component that stays between calls."""
        component = applied.components[name]
        self._load(applied, name, "")
        if component.weights is not None:
            component.weights.settle()

    def evict_for_retry(self, component: ManagedComponent) -> bool:
        """``component`` ran out of memory. True when less is on the device when it runs next."""
        found = self.charged(component)
        if found is None or component in self.running_components() or component.left_in_place:
            return False
        if self.device.release_freed():
            return True
        applied, name = found
        wish = applied.wish(name)
        held = component.held(wish) or 0
        self.activations.raise_after_oom(component)
        before = self.device.own
        self._make_room(applied, name, self._incoming(applied, name), "")
        less = (component.held(wish) or 0) < held and not wish.fixed
        if less and component.on_device:
            self.evict(applied, name)
        if less or self.device.own < before:
            applied.departs(f"{name} ran out of memory, and again with less to stay")
            return True
        return False

    def hook_every_module(self, component: ManagedComponent) -> bool:
        """``component`` failed. True when it may have met weights that were not there: its modules are all
        hooked from now on."""
        if component.every_module or component in self.running_components():
            return False
        component.hook_every_module()
        return True

    def may_apply(self, component: ManagedComponent, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """``fn`` is about to be applied to tensors of ``component``. True when the host's should be changed
        by it.

        Pipelines move components themselves now and then (``self.safety_checker.to(device)``): to the
        execution device inside a call that is a use, and back to the CPU an eviction. Raises PlanError (P713)
        for others."""
        with torch.no_grad():
            target = fn(torch.empty(0)).device
        found = self.charged(component)
        in_scope = found is not None and self.in_scope(found[0])
        if target.type not in ("cpu", self.device.name.type) or (target.type != "cpu" and not in_scope):
            plan = found[0].schedule.plan if found is not None else ""
            said = f'"{component.label}" is under plan "{plan}" and was asked to move to "{target}"'
            raise PlanError([finding(MOVE_REFUSED, said, hint="session.remove() gives it back")])
        if target.type != "cpu":
            self.touch(component)
            return False
        if component.left_in_place or (component.on_device and component.unchanged_by(fn)):
            return False
        self._evict_idle(component, "was cast or moved")
        return True

    def check(self, applied: Applied) -> None:
        """A call of the outermost scope begins: what was changed on the host or past our hooks comes again,
        and what stays is placed where it was sent home."""
        for name in applied.idle():
            if applied.components[name].stale(thoroughly=True):
                self.evict(applied, name)
        missing = [
            name
            for name, component in applied.components.items()
            if applied.wish(name).fixed
            and component.state in (State.AWAY, State.PARTIAL)
            and not component.left_in_place
        ]
        if missing:
            self._evict_for_plan(applied)
        for name in missing:
            self.place(applied, name)

    # -- inside

    def _begin(self, applied: Applied) -> None:
        self._evict_for_plan(applied)
        applied.begin()
        self.activations.begin()

    def _evict_for_plan(self, applied: Applied) -> None:
        """A plan is about to run: what only others have makes room for it, what stays by a plan last."""
        budget, peak = applied.schedule.course.budget, applied.schedule.peak
        if budget is None:
            return
        spare = 0 if peak is None else budget - peak
        others = [
            (other.wish(name).fixed, other, name)
            for other in self.applied
            if other is not applied
            for name in other.idle()
            if applied.name_of(other.components[name]) is None
        ]
        for _, other, name in sorted(others, key=lambda found: found[0]):
            if sum(o.nbytes(n) for _, o, n in others if o.components[n].on_device) > spare:
                self.evict(other, name)

    def _onload(self, applied: Applied, name: str, entry: str, given: Any = None) -> None:
        """Decides what leaves, makes a component resident, writes it down. ``given``: None where nothing says
        what it runs with."""
        component = applied.components[name]
        stage, ahead = "", None
        scope = next((s for s in reversed(self.scopes) if s.applied is applied), None)
        if scope is not None:
            visit = scope.thread not in (None, threading.get_ident())
            decision = applied.decide(name, entry, visit=visit)
            stage, ahead = decision.stage, decision.ahead
            for leaving in decision.evict:
                if applied.components[leaving] not in self.running_components():
                    self.evict(applied, leaving, stage)
        if component.stale(thoroughly=component.checked != applied.epoch) or self._otherwise(applied, name):
            self.evict(applied, name, stage)
        component.checked = applied.epoch
        incoming = self._fit(applied, name, stage)
        # The host waits for what runs; where segments do not expand for all of the device, copies too.
        if self.activations.enter(component, incoming):
            self.device.empty_cache()
        if not component.left_in_place and (incoming or component.state in (State.AWAY, State.PARTIAL)):
            self._load(applied, name, stage, entry)
        if ahead is not None:
            self._load_early(applied, *ahead, stage, beside=component)
        # Enough for it to run, at first; in a loop the rest goes at the next step, while the device computes.
        reserve = None
        if given is not None and not applied.used(name):
            reserve = self.activations.reserve(component, signature(component.module, entry, given))
        self.device.release_freed(reserve)
        applied.write("use", name, entry, stage)

    def _otherwise(self, applied: Applied, name: str) -> bool:
        """Whether a component that another plan brought has another part resident than this plan wants."""
        component = applied.components[name]
        if component.weights is None or component.placed_by in (None, applied):
            return False
        return component.weights.full != component.held(applied.wish(name))

    def _incoming(self, applied: Applied, name: str) -> int:
        """Bytes that are still to come, for a component to run. What is there may grow when it is used
        first."""
        component = applied.components[name]
        if component.state is State.RESIDENT and applied.used(name):
            return 0
        size = component.incoming(applied.wish(name), may_grow=not applied.used(name))
        return applied.schedule.course.size(name) if size is None else size

    def _fit(self, applied: Applied, name: str, stage: str) -> int:
        """Makes room for a component; returns the bytes that are still to come. Where something else refers
        to weights that should have left, less of it stays than was planned; raises torch's OutOfMemoryError
        where that does not do."""
        component = applied.components[name]
        incoming = self._incoming(applied, name)
        self._make_room(applied, name, incoming, stage)
        abandoned = self.device.abandoned
        if not abandoned or not self.activations.shortfall(component, incoming):
            return incoming
        less = component.held(applied.wish(name))
        if component.weights is not None and less is not None and less < component.weights.full:
            self.evict(applied, name, stage)
            incoming = self._incoming(applied, name)
        if not self.activations.capped and self.activations.shortfall(component, incoming):
            raise torch.OutOfMemoryError(
                f"{self.device.name}: {incoming} bytes of {name} do not fit the budget beside {abandoned} "
                "bytes of weights that something else still refers to"
            )
        return incoming

    def _make_room(self, applied: Applied, name: str, incoming: int, stage: str) -> None:
        """Idle components are evicted, in part or whole, where the activations of a component and its
        ``incoming`` bytes would not fit beside them: those of other plans first."""
        component = applied.components[name]
        for plan, other, evict in [*self._spare(applied, name, stage)]:
            if not (short := self.activations.shortfall(component, incoming)):
                return
            if plan.components[other].on_device:
                evict(short)

    def _spare(
        self, applied: Applied, name: str, stage: str
    ) -> Iterator[tuple[Applied, str, Callable[[int], None]]]:
        """What may leave while a component runs, with how: first a part of it, then all."""
        running = self.running_components()
        component = applied.components[name]
        found = [
            (other, theirs)
            for other in self.applied
            if other is not applied
            for theirs in other.idle()
            if not other.wish(theirs).fixed and applied.name_of(other.components[theirs]) is None
        ]
        own = applied.guide.spare(name, applied.resident())
        found += [(applied, n) for n in own if applied.components[n] not in running]
        found = [(plan, n) for plan, n in found if plan.components[n] is not component]
        yield from ((plan, n, plan.components[n].shed) for plan, n in found)
        yield from ((plan, n, partial(self._evict_all, plan, n, stage)) for plan, n in found)

    def _evict_all(self, applied: Applied, name: str, stage: str, _: int) -> None:
        self.evict(applied, name, stage)

    def _load(self, applied: Applied, name: str, stage: str, entry: str = "") -> None:
        """All of it is on the device, to run through ``entry``. Raises torch's OutOfMemoryError."""
        component = applied.components[name]
        if component.module is None or component.left_in_place:
            return
        try:
            component.onload(applied.wish(name), applied.moved, entry)
        except torch.OutOfMemoryError:
            # The budget is a law: whatever is not running makes room, then once more.
            for plan in self.applied:
                for other in plan.idle():
                    if not plan.wish(other).fixed and plan.components[other] is not component:
                        self.evict(plan, other, stage)
            component.onload(applied.wish(name), applied.moved, entry)
        self._came(applied, name, stage)

    def _load_early(
        self, applied: Applied, name: str, nbytes: int, stage: str, *, beside: ManagedComponent
    ) -> None:
        """The first ``nbytes`` of a component come while ``beside`` runs, if nothing must make room for
        them."""
        component = applied.components.get(name)
        if component is None or component.module is None or component.on_device or component.left_in_place:
            return
        component.prepare()
        if self.activations.shortfall(beside, nbytes):
            return
        try:
            component.onload(applied.wish(name), applied.moved, early=nbytes)
        except torch.OutOfMemoryError:
            return  # it comes when it runs
        self._came(applied, name, stage)

    def _came(self, applied: Applied, name: str, stage: str) -> None:
        component = applied.components[name]
        if component.placed_by is None:
            self._arrivals += 1
            component.arrival = self._arrivals
        component.placed_by = applied
        applied.write("load", name, "", stage)

    def _evict_idle(self, component: ManagedComponent, why: str) -> None:
        if component in self.running_components() or not component.on_device:
            return
        found = self.charged(component)
        if found is None:
            component.offload()
            return
        applied, name = found
        if self.in_scope(applied):
            applied.departs(f"{name} {why}")
        self.evict(applied, name)

    def in_scope(self, applied: Applied) -> bool:
        """Whether a call of its pipeline goes on, or a scope that its user opened."""
        return any(scope.applied is applied for scope in self.scopes)

    def _stays(self, component: ManagedComponent) -> bool:
        """Whether any plan has it on the device between calls."""
        return any(a.wish(n).fixed for a in self.applied if (n := a.name_of(component)) is not None)

    def _runs(self, applied: Applied) -> bool:
        return any(use.applied is applied for use in self.running)

    def _is_over(self, scope: Scope) -> bool:
        """Whether nobody would close it: a call's lock is free, or the caller's to take again; a token
        died."""
        if scope.thread is None:
            return scope.token() is None
        return not _is_locked(self.call_lock)

    def wait_for_call(self) -> bool:
        """Until no other thread is in a call; True where this one is. Raises PlanError (P733) when another
        is, and runs nothing for long."""
        if self.call_lock._is_owned():  # type: ignore[attr-defined]
            return True
        while _is_locked(self.call_lock):
            if not self.running and time.monotonic() - self._active > PATIENCE:
                said = f"another call on {self.device.name} has run nothing for {PATIENCE:.0f} seconds"
                hint = "is it waiting for this one? call the pipeline from one thread"
                raise PlanError([finding(DEVICE_BUSY, said, hint=hint)])
            time.sleep(0.002)
        return False


class _Finish:
    """The end of a scope, if it was the outermost of its plan. May be called again until it returns."""

    def __init__(self, state: DeviceState, applied: Applied) -> None:
        self._state = state
        self._applied = applied

    def __call__(self) -> None:
        """As said above."""
        state, applied = self._state, self._applied
        if not state.in_scope(applied) and not state._runs(applied):
            self._leave()
            if applied.removing:
                applied.remove()

    def _leave(self) -> None:
        state, applied = self._state, self._applied
        for name in [] if applied.removed else applied.leaving():
            state.evict(applied, name)
        for name, component in applied.components.items():
            if component.state is State.AWAY and applied.recording and applied.used(name):
                bring_home(component, state.device.name)
        state.device.release_freed()
        if applied.recording:
            in_call = any(event.stage for event in applied.record.events)
            state.activations.end()
            applied.end(in_call=in_call)
        if not applied.keeps:
            empty_cache(state.device.name)


def empty_cache(device: torch.device) -> None:
    """What torch's allocator keeps goes to the driver, not only to torch's allocator: another process may
    need it."""
    module = torch.get_device_module(device)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def _gone(scope: Scope) -> Scope:
    """The same, with nobody who would close it."""
    return Scope(scope.applied, None, lambda: None)


def _is_locked(lock: Any) -> bool:
    """Whether any thread holds an RLock, which tells only since Python 3.14."""
    return bool(lock.locked()) if hasattr(lock, "locked") else "unlocked" not in repr(lock)


def state_of(device: Device) -> DeviceState:
    """The one state of ``device``, which lives as long as a plan on it. What applying left on any device is
    finished first."""
    for state in [*applying]:
        if not state.is_locked():
            with state.lock:
                state.recover(nested=False)
            applying.discard(state)
    found = _states.get(id(device))
    if found is None or found.device is not device:
        _states[id(device)] = found = DeviceState(device)
    return found


def device_of(name: torch.device) -> Device | None:
    """The way to a device by which a plan goes already."""
    found = (state for state in [*_states.values()] if state.device.name == name and state.applied)
    return next((state.device for state in found), None)


def device_of_module(module: torch.nn.Module) -> Device | None:
    """The device on which a component is under a plan; None for one that is under none."""
    for state in [*_states.values()]:
        found = state.components.get(id(module))
        if found is not None and found.module is module and state.charged(found) is not None:
            return state.device
    return None
