"""A component's modules in groups that can come one after another, and what each group weighs.

A group is a subtree that holds a share of the component small enough to wait for; what lies outside of
all groups must be there before the first forward begins. Nothing is known of the model's class: block
lists, nested lists and plain containers are all subtrees. Duck-typed: torch modules, and trees made of
the names in a file, are split by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from planner.target.called import only_called
from planner.target.extents import extent, merged
from planner.target.model import Blocks, device_bytes
from planner.target.tables import tensors_of
from planner.target.wrapped import held

SHARE = 48
"""A subtree with less than one part in SHARE of the component's bytes is not split further."""

PLAIN = 12
"""One that has nothing but leaves may have this many times as much."""

FINE = 96
LEAST = 128 << 20
"""One with less than one part in FINE, or than LEAST bytes, is not split where its children are only called
either: the ring has two of the largest, and what it takes cannot stay."""

LIGHT = 4 << 20
"""Bytes of a leaf that is not worth a hook of its own: they take 0.1 ms to come."""


CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})
"""Classes that use their children only by calling them."""


OURS = "offload_plan"
"""The attribute of a ``_compiled_call_impl`` that a session put there: nothing was compiled."""


@dataclass(frozen=True, slots=True)
class Group:
    """Modules whose weights travel together. ``root`` is None for what lies outside of all blocks;
    ``reader`` may use them without calling them (attention pools concatenate their layers' biases)."""

    root: Any
    owners: tuple[Any, ...]
    reader: Any = None


def groups_of(module: Any) -> tuple[Group, ...]:
    """The groups in the order in which their modules were made; the first is what lies outside.

    What was compiled is not split: hooks inside it would be compiled with it.
    """
    if compiled(module):
        return (Group(None, tuple(module.modules())),)
    outside: list[Any] = []
    inside = list(_Split(module, outside).of(module))
    return (Group(None, tuple(outside)), *inside)


def members(groups: tuple[Group, ...]) -> Iterator[tuple[int, dict[str, Any], str, Any]]:
    """Every tensor with the number of its group, and the table and key that it stands under.

    Buffers are outside of all groups: they may hold state, and they are small.
    """
    seen: set[tuple[int, str]] = set()
    for number, group in enumerate(groups):
        for owner in group.owners:
            for table, key, tensor in tensors_of(owner):
                if (id(table), key) not in seen:
                    seen.add((id(table), key))
                    yield 0 if table is owner._buffers else number, table, key, tensor


def blocks_of(module: Any) -> Blocks:
    """Bytes that always lie on the device while the module is in use, and of each group that need not.

    A group stays when its tensors are read by others: tied weights, or a parent that reads its layers.
    """
    return streamed(module)[0]


def streamed(module: Any) -> tuple[Blocks, tuple[Group, ...]]:
    """``blocks_of`` the module, and the group of each of its ``streamable``."""
    groups = groups_of(module)
    by_storage: dict[int, list[tuple[int, tuple[int, int]]]] = {}
    for number, _, _, tensor in sorted(members(groups), key=lambda member: member[0]):
        for part in held(tensor):
            if part.numel():
                by_storage.setdefault(_storage(part), []).append((number, _range(part)))
    sizes: dict[int, list[int]] = {}
    shared: set[int] = set()
    for found in by_storage.values():
        for start, end in merged(where for _, where in found):
            inside = [number for number, (a, b) in found if start <= a and b <= end]
            sizes.setdefault(inside[0], []).append(end - start)
            if len(set(inside)) > 1:
                shared.add(inside[0])
    totals = {number: device_bytes(found) for number, found in sizes.items()}
    free = [n for n in sorted(totals) if may_leave(groups[n]) and n not in shared]
    blocks = Blocks(
        fixed=sum(size for n, size in totals.items() if n not in free),
        streamable=tuple(totals[n] for n in free),
    )
    return blocks, tuple(groups[n] for n in free)


def may_leave(group: Group) -> bool:
    """A subtree that nobody reads but by calling it."""
    return group.root is not None and group.reader is None


def compiled(module: Any) -> bool:
    """Whether torch.compile was used on it."""
    call = getattr(module, "_compiled_call_impl", None)
    whole = "_orig_mod" in getattr(module, "_modules", ())  # hasattr is slow where a module has no such thing
    return whole or (call is not None and not hasattr(call, OURS))


class _Split:
    """The groups of ``whole``. Modules that are in none are added to ``outside``."""

    def __init__(self, whole: Any, outside: list[Any]) -> None:
        self._whole = whole
        self._outside = outside
        self._seen: set[int] = set()
        self._weights: dict[int, dict[int, int]] = {}
        self._limit = self._bytes(whole) // SHARE
        self._fine = min(self._limit, max(self._bytes(whole) // FINE, LEAST))

    def of(self, module: Any) -> Iterator[Group]:
        """Those below ``module``."""
        if id(module) in self._seen:
            return  # a module that is shared by two parents belongs to the first
        children = [child for child in module.children() if id(child) not in self._seen]
        self._outside.append(module)
        leaves = tuple(filter(_leaf, children))
        self._seen.update(map(id, (module, *leaves)))
        apart = self._apart(module, leaves)
        yield from (Group(leaf, (leaf,)) for leaf in apart)
        if left := tuple(leaf for leaf in leaves if leaf not in apart):
            yield Group(left[0], left, module)
        for child in (child for child in children if child not in leaves):
            if self._together(child) or compiled(child):
                owners = tuple(m for m in child.modules() if id(m) not in self._seen)
                self._seen.update(map(id, owners))
                if owners:
                    yield Group(child, owners)
            else:
                yield from self.of(child)

    def _apart(self, module: Any, leaves: tuple[Any, ...]) -> tuple[Any, ...]:
        """Those of its ``leaves`` that come by themselves: nobody reads them uncalled, and they weigh enough.
        The whole's own may be asked for from outside (by a pipeline, for an embedding's weight)."""
        if _lists(module):
            return leaves
        heavy = tuple(leaf for leaf in leaves if self._bytes(leaf) > LIGHT)
        return heavy if heavy and module is not self._whole and only_called(module) else ()

    def _together(self, module: Any) -> bool:
        """Whether it travels whole. Its source is read where nothing else decides."""
        size = self._bytes(module)
        if size <= self._fine:
            return True
        if self._plain(module):
            return size <= PLAIN * self._limit
        weigh = any(self._bytes(child) for child in module.children() if _leaf(child))
        return size <= self._limit and weigh and not only_called(module)

    def _plain(self, module: Any) -> bool:
        """Leaves are all that it has, in lists or not, and what has no weights (a pool in a module of its
        own). Split, they could not leave: it may read them uncalled."""
        return all(
            _leaf(child) or not self._bytes(child) or (_lists(child) and self._plain(child))
            for child in module.children()
        )

    def _bytes(self, module: Any) -> int:
        return sum(self._below(module).values())

    def _below(self, module: Any) -> dict[int, int]:
        """Bytes of each tensor of ``module``, by ``id``: one that stands twice is one."""
        if id(module) not in self._weights:
            own = (tensor for _, _, tensor in tensors_of(module))
            made = {id(t): sum(p.numel() * p.element_size() for p in held(t)) for t in own}
            for child in module.children():
                made |= self._below(child)
            self._weights[id(module)] = made
        return self._weights[id(module)]


def _leaf(module: Any) -> bool:
    return not any(True for _ in module.children())


def _lists(module: Any) -> bool:
    return type(module).__name__ in CONTAINERS or getattr(module, "numbered", False)


def _storage(tensor: Any) -> int:
    """A storage's address; a tensor without memory of its own (a wrapper, the meta device) is its own."""
    try:
        return int(tensor.untyped_storage().data_ptr()) or id(tensor)
    except (AttributeError, RuntimeError, NotImplementedError):
        return id(tensor)


def _range(tensor: Any) -> tuple[int, int]:
    try:
        return extent(tensor)
    except (AttributeError, RuntimeError, NotImplementedError):
        return 0, tensor.numel() * tensor.element_size()
