"""The class that a pipeline has while it is under a plan: a subclass of its own that opens a scope around
each call.

``type(pipe).__call__`` cannot be hooked otherwise: Python looks ``__call__`` up on the type, and
``maybe_free_model_hooks`` is skipped when a call raises and never reached by nine classes. The
subclass carries its base's names, so that saving, ``from_pipe`` and messages see what they expect.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from planner.diagnostics.diagnostic import finding
from planner.diagnostics.table.p7_session import CALL_IGNORED
from planner.session.applied import Applied
from planner.session.undo import Undo

if TYPE_CHECKING:
    from planner.session.session import Session

KEY = "_offload_plan_session"

_IGNORED = (
    "enable_model_cpu_offload",
    "enable_sequential_cpu_offload",
    "enable_group_offload",
    "remove_all_hooks",
)

_AT_HOME = (
    *("load_lora_weights", "unload_lora_weights", "fuse_lora", "unfuse_lora", "set_adapters", "enable_lora"),
    *("disable_lora", "delete_adapters", "set_lora_device", "enable_lora_hotswap", "load_textual_inversion"),
    *("unload_textual_inversion", "load_ip_adapter", "unload_ip_adapter", "fuse_qkv_projections"),
    *("unfuse_qkv_projections",),
)
"""Methods that change weights past the methods of the components."""


class PlanWarning(UserWarning):
    """A call that a plan makes unnecessary or impossible."""


def put_under_plan(
    pipe: Any,
    session: Session,
    adopt: Callable[[Any], None],
    refresh: Callable[[Any], None],
    undo: Undo,
) -> None:
    """Gives ``pipe`` the subclass. ``adopt`` is called with a pipeline that got a component, ``refresh`` with
    one before its call's scope opens."""
    base: Any = type(pipe)
    applied = session.applied
    ignored = functools.partial(_ignored, applied, set())

    @functools.wraps(base.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if applied.removed:
            return base.__call__(self, *args, **kwargs)
        given = _visiting(applied, kwargs)
        work = functools.partial(base.__call__, self, *args, **given)
        return applied.state.call(applied, functools.partial(refresh, self), work)

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        dtypes = [a for a in (*args, kwargs.get("dtype")) if isinstance(a, torch.dtype)]
        places = [a for a in (kwargs.get("device"), *args) if isinstance(a, (str, int, torch.device))]
        device = places[0] if places else None
        if device is not None:
            ignored(f"to({str(device)!r})")
        return base.to(self, dtypes[0]) if dtypes else self

    def set_attribute(self: Any, name: str, value: Any) -> None:
        base.__setattr__(self, name, value)
        if isinstance(value, torch.nn.Module) or name in applied.components:
            adopt(self)

    def reduce(self: Any, protocol: Any) -> Any:
        state = {key: value for key, value in self.__dict__.items() if key != KEY}
        return copyreg._reconstructor, (base, object, None), state  # type: ignore[attr-defined]

    members: dict[str, Any] = {"__call__": call, "to": to, "__reduce_ex__": reduce}
    members |= {"__setattr__": set_attribute, "device": property(lambda _: applied.state.device.name)}
    members |= {name: _nothing(ignored, name) for name in _IGNORED if hasattr(base, name)}
    members |= {name: _at_home(applied, getattr(base, name)) for name in _AT_HOME if hasattr(base, name)}
    members |= {n: getattr(base, n) for n in ("__module__", "__qualname__", "__doc__")}
    planned = type(base.__name__, (base,), members)
    held = weakref.ref(pipe)  # who keeps the session does not keep the pipeline

    def restore() -> None:
        if (pipe := held()) is not None:
            pipe.__dict__.pop(KEY, None)
            if type(pipe) is planned:
                pipe.__class__ = base

    undo.add(restore)
    pipe.__dict__[KEY] = session
    pipe.__class__ = planned


def session_of(pipe: Any) -> Session | None:
    """The session that ``pipe`` is under, or None."""
    session: Session | None = getattr(pipe, "__dict__", {}).get(KEY)
    return None if session is None or session.applied.removed else session


def _nothing(ignored: Callable[[str], None], name: str) -> Callable[..., None]:
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        ignored(f"{name}()")

    return method


def _at_home(applied: Applied, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        work = functools.partial(method, *args, **kwargs)
        return work() if applied.removed else applied.state.at_home_all(applied, work)

    return run


def _ignored(applied: Applied, said: set[str], call: str) -> None:
    if call in said:
        return
    said.add(call)
    plan = applied.schedule.plan
    problem = finding(CALL_IGNORED, f'{call} does nothing: the pipeline is under plan "{plan}"')
    warnings.warn(str(problem), PlanWarning, stacklevel=4)


def _visiting(applied: Applied, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments, with step callbacks marked: what they run is a visit, not the walk.

    Only plain functions are wrapped; diffusers asks ``isinstance`` of its own callback classes.
    """
    made = dict(kwargs)
    for key in ("callback_on_step_end", "callback"):
        callback = made.get(key)
        if inspect.isroutine(callback) or isinstance(callback, functools.partial):
            made[key] = _visit(applied, callback)
    return made


def _visit(applied: Applied, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        before = applied.visiting
        applied.visiting = before + 1
        try:
            return callback(*args, **kwargs)
        finally:
            applied.visiting = before
            applied.epoch = object()  # it may have changed weights

    return run
