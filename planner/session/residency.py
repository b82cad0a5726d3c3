"""Which components one device holds, and for which plans: the only owner of components, memory and budget.

Two pipelines that share components are two ``Applied`` on one residency: a component is on the device once,
whichever pipeline runs, and nothing is handed over between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.schedule.estimate import ActivationEstimate
from planner.session.applied import Applied
from planner.session.component import ManagedComponent, State
from planner.session.home import bring_home


@dataclass(slots=True, eq=False)
class Use:
    """A component runs. ``applied``: the plan that it runs under."""

    component: ManagedComponent
    entry: str
    applied: Applied | None = None


class Residency:
    """Its methods are called with the lock of the ``DeviceState`` held that it belongs to.

    Invariants, whenever that lock is free:
        - ``components`` has each component of each plan in ``applied``, by the ``id`` of its module;
        - what is on the device belongs to one of ``components``, and ``placed_by`` is the plan whose wish
          decided how much of it;
        - ``running`` is empty: what a thread that was interrupted left there is removed by the next one that
          enters;
        - no component is ``RUNNING``, ``unfinished`` or ``changing``, or the next one that enters offloads
          it;
        - the device is capped only while ``applied`` has a plan.
    """

    def __init__(self, device: Device) -> None:
        """Holds nothing."""
        self.device = device
        self.pins = Pins(device.name)
        self.activations = ActivationEstimate(device, None)
        self.applied: list[Applied] = []
        self.components: dict[int, ManagedComponent] = {}
        self.running: list[Use] = []
        self._arrivals = 0
        self._capped = False
        """Whether the device may have been told of a budget."""

    # -- plans and components

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
        if applied in self.applied:
            self.applied.remove(applied)
        for name in [*applied.components]:
            self.dismiss(applied, name)
        self.device.release_freed()
        self.pins.release_but(host for c in self.components.values() for host in c.layouts)
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
            for host in component.layouts:
                self.pins.release(host)
            component.casts.forget()
            component.host = None
            self.components = {key: c for key, c in self.components.items() if c is not component}
        elif component.placed_by is applied:
            component.offload()
        applied.components.pop(name, None)  # last: after an interrupt it begins again

    def recover(self) -> None:
        """Nothing runs: what an interrupt left is finished, and modules that are gone are forgotten."""
        self.running.clear()
        for component in [*self.components.values()]:
            component.recover()
        for key in [key for key, component in self.components.items() if component.module is None]:
            self.components.pop(key, None)

    # -- who runs, who stays

    def running_components(self) -> list[ManagedComponent]:
        """Those with a use that has begun and not ended."""
        return [use.component for use in self.running]

    def runs(self, applied: Applied) -> bool:
        """Whether a component runs under a plan."""
        return any(use.applied is applied for use in self.running)

    def stays(self, component: ManagedComponent) -> bool:
        """Whether any plan has it on the device between calls."""
        return any(a.wish(n).fixed for a in self.applied if (n := a.name_of(component)) is not None)

    def idle_of_others(self, applied: Applied) -> Iterator[tuple[Applied, str]]:
        """What is on the device and does not run, of other plans alone: each with its plan."""
        for other in self.applied:
            if other is not applied:
                yield from ((other, n) for n in other.idle() if applied.name_of(other.components[n]) is None)

    # -- moves

    def evict(self, applied: Applied, name: str, stage: str = "") -> None:
        """A component leaves the device: to make room, or because it was changed."""
        component = applied.components[name]
        if component.on_device:
            applied.write("evict", name, "", stage)
            component.offload()

    def load(self, applied: Applied, name: str, stage: str, entry: str = "") -> None:
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

    def load_early(
        self, applied: Applied, name: str, nbytes: int, stage: str, *, beside: tuple[ManagedComponent, str]
    ) -> None:
        """The first ``nbytes`` of a component come while ``beside`` runs, through an entry point, if nothing
        must make room for them."""
        component = applied.components.get(name)
        if component is None or component.module is None or component.on_device or component.left_in_place:
            return
        component.prepare()
        if self.activations.shortfall(*beside, nbytes):
            return
        try:
            component.onload(applied.wish(name), applied.moved, early=nbytes)
        except torch.OutOfMemoryError:
            return  # it comes when it runs
        self._came(applied, name, stage)

    def end(self, applied: Applied) -> None:
        """No scope of a plan is open any more: what it wants away between calls leaves."""
        for name in [] if applied.removed else applied.leaving():
            self.evict(applied, name)
        for name, component in applied.components.items():
            if component.state is State.AWAY and applied.recording and applied.used(name):
                bring_home(component, self.device.name)
        self.device.release_freed()
        if applied.recording:
            in_call = any(event.stage for event in applied.record.events)
            self.activations.end()
            applied.end(in_call=in_call)
        if not applied.keeps:
            empty_cache(self.device.name)

    def _came(self, applied: Applied, name: str, stage: str) -> None:
        component = applied.components[name]
        if component.placed_by is None:
            self._arrivals += 1
            component.arrival = self._arrivals
        component.placed_by = applied
        applied.write("load", name, "", stage)


def empty_cache(device: torch.device) -> None:
    """What torch's allocator keeps goes to the driver, not only to torch's allocator: another process may
    need it."""
    module = torch.get_device_module(device)
    if hasattr(module, "empty_cache"):
        module.empty_cache()
