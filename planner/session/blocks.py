"""A component's modules in groups that can arrive one after another.

A group is a subtree that holds a share of the component small enough to wait for; what lies outside of
all groups must be there before the first forward begins. Nothing is known of the model's class: block
lists, nested lists and plain containers are all subtrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

SHARE = 24
"""A subtree with less than one part in SHARE of the component's bytes is not split further."""


@dataclass(frozen=True, slots=True)
class Group:
    """Modules whose weights travel together. ``root`` is None for what lies outside of all blocks;
    ``reader`` may use them without calling them (attention pools concatenate their layers' biases)."""

    root: torch.nn.Module | None
    owners: tuple[torch.nn.Module, ...]
    reader: torch.nn.Module | None = None


def groups_of(module: torch.nn.Module) -> tuple[Group, ...]:
    """The groups in the order in which their modules were made; the first is what lies outside."""
    limit = _bytes(module) // SHARE
    outside: list[torch.nn.Module] = []
    inside = list(_split(module, limit, outside, set()))
    return (Group(None, tuple(outside)), *inside)


def _split(
    module: torch.nn.Module, limit: int, outside: list[torch.nn.Module], seen: set[int]
) -> Iterator[Group]:
    if id(module) in seen:
        return  # a module that is shared by two parents belongs to the first
    children = [child for child in module.children() if id(child) not in seen]
    outside.append(module)
    leaves = tuple(child for child in children if not any(True for _ in child.children()))
    seen.update(map(id, (module, *leaves)))
    if leaves:
        yield Group(leaves[0], leaves, module)
    for child in (child for child in children if child not in leaves):
        if _bytes(child) <= limit:
            owners = tuple(m for m in child.modules() if id(m) not in seen)
            seen.update(map(id, owners))
            if owners:
                yield Group(child, owners)
        else:
            yield from _split(child, limit, outside, seen)


def _bytes(module: torch.nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
