"""Which components lie on the device each time that another one begins to run.

Seen where the computing is: at the first submodule that runs after one of another component. By then
whoever moves components has moved them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from planner.session.checks import modules_of

Entry = tuple[str, frozenset[str]]
"""A component, and those on the device when it begins (itself among them)."""


@contextmanager
def watched(pipe: Any) -> Iterator[list[Entry]]:
    """The entries of a call, in order."""
    modules = modules_of(pipe)
    owner: dict[int, str] = {}
    for name, module in modules.items():
        for child in module.modules():
            owner.setdefault(id(child), name)
    roots = {id(module) for module in modules.values()}
    own = {name: _own(name, modules) for name in modules}
    found: list[Entry] = []

    def look(module: torch.nn.Module, *, root: bool) -> None:
        name = owner.get(id(module))
        if name is None or (id(module) in roots) is not root or (found and found[-1][0] == name):
            return
        found.append((name, frozenset(n for n in modules if any(map(_there, own[n]())))))

    hooks = (
        register_module_forward_pre_hook(lambda module, _: look(module, root=False)),
        # A component without submodules shows itself when it has run.
        register_module_forward_hook(lambda module, *_: look(module, root=True)),
    )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _own(name: str, modules: dict[str, torch.nn.Module]) -> Callable[[], Iterator[torch.Tensor]]:
    """The weights that a component shares with no other: what it shares (Z-Image's ControlNet has parts
    of the transformer) lies where either of them is."""
    others = {id(child) for n, m in modules.items() if n != name for child in m.modules()}
    mine = [child for child in modules[name].modules() if id(child) not in others]

    def tensors() -> Iterator[torch.Tensor]:
        for child in mine:
            yield from child.parameters(recurse=False)
            yield from child.buffers(recurse=False)

    return tensors


def _there(tensor: torch.Tensor) -> bool:
    return tensor.device.type not in ("cpu", "meta")


def peak(entries: list[Entry], sizes: dict[str, int]) -> int:
    """The most bytes of components that lay on the device at once, as far as entries show."""
    return max((sum(sizes.get(name, 0) for name in there) for _, there in entries), default=0)
