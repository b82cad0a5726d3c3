"""The one state of each device, found by the device, its name or a component."""

from __future__ import annotations

import weakref

import torch

from planner.device.protocol import Device
from planner.session.device_state import DeviceState

_states: weakref.WeakValueDictionary[int, DeviceState] = weakref.WeakValueDictionary()
"""By ``id`` of the device, which they hold."""
applying: set[DeviceState] = set()
"""Those on which a plan is being applied, or where that was interrupted and its undoing too: it may be that
nothing else refers to them."""


def state_of(device: Device) -> DeviceState:
    """The one state of ``device``, which lives as long as a plan on it. What applying left on any device is
    finished first."""
    for state in [*applying]:
        if state.recovered():
            applying.discard(state)
    found = _states.get(id(device))
    if found is None or found.device is not device:
        _states[id(device)] = found = DeviceState(device)
    return found


def device_of(name: torch.device) -> Device | None:
    """The way to a device by which a plan goes already."""
    found = (s for s in [*_states.values()] if s.device.name == name and s.residency.applied)
    return next((state.device for state in found), None)


def device_of_module(module: torch.nn.Module) -> Device | None:
    """The device on which a component is under a plan; None for one that is under none."""
    for state in [*_states.values()]:
        found = state.residency.components.get(id(module))
        if found is not None and found.module is module and state.charged(found) is not None:
            return state.device
    return None
