"""How a session sees that a component runs, and how it is left as it was found.

Three ways in: torch's forward pre-hook on the component, a wrapper around each entry point that is
not ``forward``, and ``_hf_hook.pre_forward``, which diffusers' ``apply_forward_hook`` methods call.
``forward`` is never replaced: accelerate's installer leaves it in ``__dict__``, and a replaced
``forward`` breaks whole-model compilation.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Protocol

import torch
from accelerate.utils import send_to_device

from planner.session.again import Giver, again, repeat_forward

_MISSING: Any = object()
_untraced: Callable[[Any], Any] = torch.compiler.disable

# A copy of a component, deep or pickled, is under no plan: hooks become what does nothing, methods those
# of the class (the copy's own attributes are set after), and what loads the copy needs nothing of ours.
_NOTHING: tuple[Any, ...] = (getattr, (nullcontext(), "__exit__"))

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


class Watcher(Giver, Protocol):
    """What the hooks call; a ``Session`` is one."""

    def begin(self, component: str, entry: str, given: Any) -> None:
        """The component is about to run with the arguments ``given``: make it resident."""

    def end(self, component: str) -> None:
        """It has run, or failed."""

    def arrive(self, component: str, entry: str) -> None:
        """It is about to run, and nobody will say when it ends."""

    def recast(self, component: str, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """``module._apply(fn)`` was called. True when the host's tensors should be changed by it."""

    def at_home(self, component: str) -> AbstractContextManager[None]:
        """Inside it the component's weights are the host's tensors."""


class HfHook:
    """What stands at ``module._hf_hook``: diffusers reads ``execution_device`` there.

    Never accelerate's ``CpuOffload`` or ``AlignDevicesHook``: LoRA loaders remove those. A hook of
    somebody else that stood there is kept inside and called first.
    """

    no_grad = False

    def __init__(self, watcher: Watcher, component: str, inner: Any) -> None:
        self.watcher = watcher
        self.component = component
        self.inner = inner
        self.execution_device = watcher.execution_device
        self.no_grad = getattr(inner, "no_grad", False)

    @_untraced
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """As accelerate's ``ModelHook.pre_forward``: returns the arguments to call with."""
        if self.inner is not None:
            args, kwargs = self.inner.pre_forward(module, *args, **kwargs)
        self.watcher.arrive(self.component, "")
        return args, kwargs

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        """As accelerate's ``ModelHook.post_forward``."""
        return output if self.inner is None else self.inner.post_forward(module, output)

    def init_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Nothing to do: accelerate calls it when it chains hooks."""
        return module

    def detach_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        """Somebody removes hooks through accelerate: the inner one is told, ours stays seen by torch."""
        return module if self.inner is None else self.inner.detach_hook(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.inner,)


def attach(
    watcher: Watcher, component: str, module: torch.nn.Module, entries: Iterable[str], undo: ExitStack
) -> None:
    """Puts the hooks on ``module``; ``undo`` takes each of them off again."""
    undo.callback(_hf(watcher, component, module))
    _forward(watcher, component, "", module, undo)
    watch_entries(watcher, component, module, entries, undo)
    for name in AT_HOME:
        if callable(getattr(module, name, None)):
            _replace(module, name, _AtHome(watcher, component, module, name), undo)
    _replace(module, "_apply", Guard(watcher, component, module), undo)
    _replace(module, "__reduce_ex__", _Reduce(watcher, component, module), undo)


def watch_entries(
    watcher: Watcher, component: str, module: torch.nn.Module, entries: Iterable[str], undo: ExitStack
) -> None:
    """The entry points of ``module`` that nobody watches yet."""
    for entry in _entries(module, entries):
        owner, name = _owner(module, entry)
        part = getattr(owner, name)
        if isinstance(part, torch.nn.Module):
            if not any(isinstance(hook, _Before) for hook in part._forward_pre_hooks.values()):
                _forward(watcher, component, entry, part, undo)
        elif not isinstance(part, _Entry):
            _replace(owner, name, _Entry(watcher, component, entry, owner, name), undo)


def _hf(watcher: Watcher, component: str, module: torch.nn.Module) -> Callable[[], None]:
    found = module.__dict__.get("_hf_hook", _MISSING)
    ours = HfHook(watcher, component, None if found is _MISSING else found)
    module.__dict__["_hf_hook"] = ours
    held = weakref.ref(module)

    def restore() -> None:
        if (module := held()) is None:
            return
        now = module.__dict__.get("_hf_hook", _MISSING)
        if now is ours:
            if found is _MISSING:
                del module.__dict__["_hf_hook"]
            else:
                module.__dict__["_hf_hook"] = found
        elif now is not _MISSING and ours in getattr(now, "hooks", ()):
            # Chained later with append=True: take ours out of the chain, leave the others.
            now.hooks = tuple(hook for hook in now.hooks if hook is not ours)

    return restore


def _forward(watcher: Watcher, component: str, entry: str, module: torch.nn.Module, undo: ExitStack) -> None:
    # Before others' hooks, so that they find the weights in place; after them on the way out.
    before, after = _Before(watcher, component, entry), _After(watcher, component)
    undo.callback(module.register_forward_pre_hook(before, prepend=True, with_kwargs=True).remove)
    undo.callback(module.register_forward_hook(after, always_call=True).remove)
    if (repeated := repeat_forward(watcher, component, module)) is not None:
        undo.callback(repeated)


class _Before:
    """Forward pre-hook: the component comes, and its inputs go where it runs."""

    def __init__(self, watcher: Watcher, component: str, entry: str) -> None:
        self._watcher = watcher
        self._component = component
        self._entry = entry

    @_untraced
    def __call__(self, _: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._watcher.begin(self._component, self._entry, (args, kwargs))
        device = self._watcher.execution_device
        return send_to_device(args, device), send_to_device(kwargs, device)

    def __reduce__(self) -> tuple[Any, ...]:
        return _NOTHING


class _After:
    """Forward hook: the component ran, or failed."""

    def __init__(self, watcher: Watcher, component: str) -> None:
        self._watcher = watcher
        self._component = component

    @_untraced
    def __call__(self, *_: Any) -> None:
        self._watcher.end(self._component)

    def __reduce__(self) -> tuple[Any, ...]:
        return _NOTHING


class _Entry:
    """In the place of a method that is an entry point."""

    def __init__(self, watcher: Watcher, component: str, entry: str, owner: Any, name: str) -> None:
        self._watcher = watcher
        self._component = component
        self._entry = entry
        self._owner = owner
        self._name = name
        self._method = getattr(owner, name)
        functools.update_wrapper(self, self._method, updated=())

    @_untraced
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return again(self._watcher, self._component, self._owner, lambda: self._once(args, kwargs))

    def _once(self, args: Any, kwargs: Any) -> Any:
        self._watcher.begin(self._component, self._entry, (args, kwargs))
        try:
            device = self._watcher.execution_device
            return self._method(*send_to_device(args, device), **send_to_device(kwargs, device))
        finally:
            self._watcher.end(self._component)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)


class _AtHome:
    """In the place of a method that reads or changes weights."""

    def __init__(self, watcher: Watcher, component: str, module: torch.nn.Module, name: str) -> None:
        self._watcher = watcher
        self._component = component
        self._module = module
        self._name = name
        self._method = getattr(module, name)
        functools.update_wrapper(self, self._method, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._watcher.at_home(self._component):
            return self._method(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._module, self._name)


class _Reduce(_AtHome):
    """In the place of ``module.__reduce_ex__``: copies, deep or pickled, are of the host's tensors."""

    def __init__(self, watcher: Watcher, component: str, module: torch.nn.Module) -> None:
        super().__init__(watcher, component, module, "__reduce_ex__")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        make, given, state, *more = super().__call__(*args, **kwargs)
        return make, given, {k: v for k, v in state.items() if k != "__reduce_ex__"}, *more


class Guard:
    """In the place of ``module._apply``, which every ``to``, ``half`` and ``cpu`` goes through."""

    def __init__(self, watcher: Watcher, component: str, module: torch.nn.Module) -> None:
        self.watcher = watcher
        self._component = component
        self._module = module
        self._original: Any = module._apply

    def __call__(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> torch.nn.Module:
        """As ``Module._apply``."""
        if self.watcher.recast(self._component, fn):
            self._original(fn, recurse)
        return self._module

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._module, "_apply")


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


def _replace(owner: Any, name: str, value: Any, undo: ExitStack) -> None:
    found = owner.__dict__.get(name, _MISSING)
    owner.__dict__[name] = value
    held, ours = weakref.ref(owner), weakref.ref(value)

    def restore() -> None:
        if (owner := held()) is not None and owner.__dict__.get(name) is ours():
            if found is _MISSING:
                del owner.__dict__[name]
            else:
                owner.__dict__[name] = found

    undo.callback(restore)
