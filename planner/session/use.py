"""A component runs: the one way through which every call of a component, and of its entry points, goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from accelerate.utils import send_to_device

from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState
from planner.session.recompute import recomputing
from planner.session.retry import again
from planner.streaming.gradients import saved_as_notes


def run(
    state: DeviceState,
    component: ManagedComponent,
    entry: str,
    function: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)`` with ``component`` on the device and its inputs there too.

    The lock is held from before torch reads a module's hooks, and by ``with``: whatever is raised, and
    wherever an interrupt falls, the use has ended when this is left, or is ended by the next one that enters.
    """

    def work() -> Any:
        if component in state.residency.running_components():
            return state.use(component, entry, None, lambda: function(*args, **kwargs))
        return again(state, component, once)

    def once() -> Any:
        return state.use(component, entry, (args, kwargs), inside)

    def inside() -> Any:
        device = state.device.name
        moved_args, moved_kwargs = send_to_device(args, device), send_to_device(kwargs, device)
        with _gradients(state, component, entry):
            return function(*moved_args, **moved_kwargs)

    return state.entered(work)


def _gradients(state: DeviceState, component: ManagedComponent, entry: str) -> AbstractContextManager[Any]:
    """What autograd saves of weights that leave is fetched again when it is needed, and what is computed
    again in backward is a use."""
    made, module = ExitStack(), component.module
    if component.weights is not None and component.weights.gradients and module is not None:
        made.enter_context(saved_as_notes(component.weights.weights_in, state.residency.pins.cuts))
        made.enter_context(recomputing(module, lambda block: run(state, component, entry, block, (), {})))
    return made
