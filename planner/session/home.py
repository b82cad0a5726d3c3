"""Tensors of a component that are on the device though nobody wants them there: brought back to the host."""

from __future__ import annotations

import torch

from planner.host.layout import of_host
from planner.host.regions import entries_of
from planner.session.component import ManagedComponent
from planner.streaming.binding import brought_home


def bring_home(component: ManagedComponent, device: torch.device) -> None:
    """By whatever code it came there: a submodule replaced or moved in a callback, a buffer that a forward
    registered. A tensor that was moved in place stays the same object. For a component that is away."""
    module = component.module
    if module is None or component.left_in_place or device.type == "cpu":
        return
    if component.host is not None and component.host.untouched():
        return
    moved: dict[int, torch.Tensor] = {}
    for table, key, tensor in entries_of(module):
        if tensor.device.type == device.type:
            table[key] = moved.setdefault(id(tensor), _home(tensor))


def _home(tensor: torch.Tensor) -> torch.Tensor:
    origin: torch.Tensor = of_host(tensor)
    if origin is not tensor:
        return origin
    home = brought_home(tensor)
    if torch._has_compatible_shallow_copy_type(tensor, home):  # as torch decides in Module._apply
        tensor.data = home.data
        return tensor
    return home
