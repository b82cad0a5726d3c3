"""The class that a component has while it is under a plan: a subclass of its own, with another ``__call__``.

torch reads a module's hooks before it calls the first of them, so a hook comes too late to wait for another
thread; ``__call__`` does not. ``forward`` is never replaced: accelerate's installer leaves it in
``__dict__``, and a replaced one breaks whole-model compilation. The subclass carries its base's names, and
copies, deep or pickled, are of the base: they are under no plan."""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import MOVE_REFUSED
from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState
from planner.session.hf_hook import HfHook
from planner.session.undo import Undo
from planner.session.use import run

GENERIC = ("encode", "decode", "generate", "get_text_features", "get_image_features")
"""Methods beside ``forward`` that compute with a component's weights, in any class that has them."""

AT_HOME = (
    *("load_lora_adapter", "load_adapter", "add_adapter", "set_adapter", "set_adapters", "delete_adapter"),
    *("delete_adapters", "enable_adapters", "disable_adapters", "enable_lora", "disable_lora", "fuse_lora"),
    *("unfuse_lora", "unload_lora", "enable_lora_hotswap", "load_attn_procs", "save_attn_procs"),
    *("set_attn_processor", "fuse_qkv_projections", "unfuse_qkv_projections", "_load_ip_adapter_weights"),
    *("resize_token_embeddings", "requires_grad_", "state_dict", "load_state_dict", "save_pretrained"),
)
"""Methods that read or change a component's weights without computing with them: by the host's tensors."""

REFUSED = ("enable_group_offload",)

_untraced: Callable[[Any], Any] = torch.compiler.disable


def put_under_plan(
    state: DeviceState,
    component: ManagedComponent,
    module: torch.nn.Module,
    entries: Iterable[str],
    undo: Undo,
) -> None:
    """Gives ``module`` the class, and watches its entry points; ``undo`` takes both back."""
    found = [(entry, *_owner(module, entry)) for entry in _entries(module, entries)]
    own = {entry: name for entry, owner, name in found if owner is module and _is_of_class(module, name)}
    members: dict[str, Any] = {name: _entry(state, component, entry, name) for entry, name in own.items()}
    members |= {
        name: _at_home(state, component, name)
        for name in AT_HOME
        if callable(getattr(module, name, None)) and name not in module.__dict__
    }
    members |= {name: _refused(component, name) for name in REFUSED if hasattr(module, name)}
    members["__reduce_ex__"] = _reduce(state, component)
    _give_class(state, component, "", module, members, undo)
    for entry, owner, name in found:
        watch_entry(state, component, entry, owner, name, undo)


def watch_entry(
    state: DeviceState, component: ManagedComponent, entry: str, owner: Any, name: str, undo: Undo
) -> None:
    """An entry point that is not a method of the component's class, unless it is watched already."""
    part = getattr(owner, name)
    if isinstance(part, torch.nn.Module):
        if not is_under_plan(part):
            _give_class(state, component, entry, part, {"__reduce_ex__": _reduce(state, component)}, undo)
    elif not hasattr(part, "_of_plan"):
        _replace(owner, name, _InstanceEntry(state, component, entry, owner, name), undo)


def watch_entries(
    state: DeviceState,
    component: ManagedComponent,
    module: torch.nn.Module,
    entries: Iterable[str],
    undo: Undo,
) -> None:
    """The entry points of ``module`` that another plan did not name."""
    for entry in _entries(module, entries):
        owner, name = _owner(module, entry)
        watch_entry(state, component, entry, owner, name, undo)


def is_under_plan(module: Any) -> bool:
    """Whether it has a class of ours."""
    return "_planned_base" in vars(type(module))


def _give_class(
    state: DeviceState,
    component: ManagedComponent,
    entry: str,
    module: torch.nn.Module,
    members: dict[str, Any],
    undo: Undo,
) -> None:
    base: Any = type(module)
    call = base.__call__

    def planned_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return _traced(state, component, entry, functools.partial(call, self), args, kwargs)
        return run(state, component, entry, functools.partial(call, self), args, kwargs)

    functools.update_wrapper(planned_call, call)
    members |= {"__call__": planned_call, "_planned_base": base}
    members |= {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    planned: Any = _metaclass(type(base))(  # type: ignore[arg-type]
        base.__name__, (base,), members
    )

    def restore() -> None:
        if type(module) is planned:
            module.__class__ = base

    undo.add(restore)
    module.__class__ = planned


@functools.cache
def _metaclass(meta: type) -> Any:
    """Classes of it are equal to their base: ``type(component) in expected`` (``from_pipe``) holds as it
    did."""

    def equal(cls: Any, other: object) -> bool:
        return cls is other or cls._planned_base is getattr(other, "_planned_base", other)

    return type(meta.__name__, (meta,), {"__eq__": equal, "__hash__": lambda cls: hash(cls._planned_base)})


def _traced(
    state: DeviceState,
    component: ManagedComponent,
    entry: str,
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> Any:
    """Inside of what is compiled around it, whose own call holds the lock."""
    _untraced(state.touch)(component, entry)
    return call(*args, **kwargs)


def _entry(state: DeviceState, component: ManagedComponent, entry: str, name: str) -> Any:
    """A method that runs the component."""
    module = component.module
    found = getattr(type(module), name)

    @functools.wraps(found)
    @_untraced
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run(state, component, entry, functools.partial(found, self), args, kwargs)

    method._of_plan = True  # type: ignore[attr-defined]
    return method


def _at_home(state: DeviceState, component: ManagedComponent, name: str) -> Any:
    """A method that reads or changes weights."""
    base: Any = type(component.module)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # What torch.compile returns has the methods of what it compiled, and not in its class.
        found = (
            getattr(super(type(self), self), name) if hasattr(base, name) else base.__getattr__(self, name)
        )
        return state.at_home((component,), functools.partial(found, *args, **kwargs))

    if hasattr(base, name):
        functools.update_wrapper(method, getattr(base, name))

    return method


def _refused(component: ManagedComponent, name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = f'"{component.label}" is under a plan and was asked for {name}()'
        raise PlanError([finding(MOVE_REFUSED, said, hint="session.remove() gives it back")])

    return method


def _reduce(state: DeviceState, component: ManagedComponent) -> Any:
    """Copies are of the host's tensors, and of the class that the component had."""

    def reduce(self: Any, protocol: Any) -> Any:
        base = type(self)._planned_base

        made = state.at_home((component,), functools.partial(base.__reduce_ex__, self, protocol))
        if isinstance(made, str) or made[0] not in (copyreg.__newobj__, copyreg._reconstructor):  # type: ignore[attr-defined]
            return made
        # Not by ``__newobj__``, which wants the class that the object has now.
        found = {**made[2]} if isinstance(made[2], dict) else made[2]
        if isinstance(found, dict) and isinstance(hook := found.get("_hf_hook"), HfHook):
            found.pop("_hf_hook")  # accelerate asks by ``hasattr`` whether there is one
            found |= {} if hook.inner is None else {"_hf_hook": hook.inner}
        return copyreg._reconstructor, (base, object, None), found, *made[3:]  # type: ignore[attr-defined]

    return reduce


class _InstanceEntry:
    """In the place of a method of a submodule, or of one that somebody set on the instance."""

    _of_plan = True

    def __init__(
        self, state: DeviceState, component: ManagedComponent, entry: str, owner: Any, name: str
    ) -> None:
        self._state = state
        self._component = component
        self._entry = entry
        self._owner = owner
        self._name = name
        self._method = getattr(owner, name)
        functools.update_wrapper(self, self._method, updated=())

    @_untraced
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return run(self._state, self._component, self._entry, self._method, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)


def _entries(module: torch.nn.Module, named: Iterable[str]) -> Iterator[str]:
    """The entry points to watch: those that the plan and the catalogue name, the generic ones, and
    every method that diffusers itself would hook."""
    hooked = [
        name
        for cls in type(module).__mro__
        for name, member in vars(cls).items()
        if getattr(getattr(member, "__code__", None), "co_qualname", "").startswith("apply_forward_hook.")
    ]
    for entry in dict.fromkeys((*named, *GENERIC, *hooked)):
        owner, name = _owner(module, entry)
        if owner is not None and entry != "forward" and callable(getattr(owner, name, None)):
            yield entry


def _owner(module: torch.nn.Module, entry: str) -> tuple[Any, str]:
    """The object that has the last name of the path, and that name; None when there is none."""
    *path, name = entry.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part, None)
    return owner, name


def _is_of_class(module: torch.nn.Module, name: str) -> bool:
    return hasattr(type(module), name) and name not in module.__dict__


_MISSING: Any = object()


def _replace(owner: Any, name: str, value: Any, undo: Undo) -> None:
    found = owner.__dict__.get(name, _MISSING)

    def restore() -> None:
        if owner.__dict__.get(name) is value:
            if found is _MISSING:
                del owner.__dict__[name]
            else:
                owner.__dict__[name] = found

    undo.add(restore)
    owner.__dict__[name] = value
