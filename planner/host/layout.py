"""A component's weights on the host, made ready once: packed, read in, and laid out for few copies.

The host tensor is the truth and there is one of it. Small tensors are packed so that a block crosses in
few copies; tensors that are views of a mapped file are read into memory of our own, because registering
a private mapping would copy its pages one by one; everything else stays where it lies. The user's own
Parameter and buffer objects stay the same objects. What lies in memory that processes share stays there: it
was laid out for this, and a copy would be this process's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, is_, methodcaller
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.weak import WeakIdKeyDictionary

from planner.device.pinned import Pins
from planner.forms.eight_bit import to_states
from planner.forms.wrapped import parts, repacked
from planner.host.entries import Entries, lie, places, versions
from planner.host.packing import Held, copies, extents, held_of, pack, placed
from planner.host.regions import Slot
from planner.target.blocks import CONTAINERS, Group, compiled, groups_of, may_leave, members
from planner.target.model import Blocks, device_bytes

ORIGIN: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""The host's tensor for each of a device's that is still referred to, whichever component made it: two may
share a module."""


def of_host(tensor: Any) -> Any:
    """The host's tensor for one of a device's; any other as it is."""
    return tensor if tensor is None else ORIGIN.get(tensor, tensor)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Block:
    """What one group of modules brings: device offset and host bytes of each copy.

    The copies lie in ``nbytes`` from ``base`` on, and hold ``tensors``, of which the ``counted`` tell when
    they are written (inference tensors do not). ``entries``: the modules through which a forward should enter
    the group; ``borrowers``: modules of other groups that read its tensors; ``compiled``: one of those is,
    and has no hook; ``leaves``: a streamed component may do without it."""

    group: Group
    entries: tuple[torch.nn.Module, ...]
    borrowers: tuple[torch.nn.Module, ...]
    compiled: bool
    copies: tuple[tuple[int, torch.Tensor], ...]
    tensors: tuple[torch.Tensor, ...]
    counted: tuple[torch.Tensor, ...]
    base: int
    nbytes: int
    leaves: bool

    def versions(self) -> list[int]:
        """How often each of its tensors was written in place."""
        return versions(self.counted)


@dataclass(slots=True)
class Path:
    """What the last forward through one entry point did: the blocks that it ran, by their turns (``order``),
    and the modules through which it entered each (``entries``). Another entry point runs others, in another
    way. ``passes``: how many forwards there were before the component was offloaded, 0 before it was."""

    passes: int = 0
    order: list[int] = field(default_factory=list)
    entries: dict[int, tuple[torch.nn.Module, ...]] = field(default_factory=dict)


class HostWeights:
    """One component's host memory, and its layout on a device: ``nbytes`` in ``blocks``.

    ``places`` maps ``id`` of a plain host tensor to its block and the offset in it; ``entries`` are those of
    each block in the modules' tables, once for each module that owns a tensor; ``apart`` are tensors that
    only their own class can move; ``sizes`` are the blocks as the compiler counts them; ``first`` is the
    block of the first parameter, None where there is none."""

    def __init__(self, module: torch.nn.Module, pins: Pins) -> None:
        """Packs and registers. The weights' values and identities stay what they were. What was
        registered before an interrupt in it is unregistered by ``Pins.release_but``."""
        to_states(module)
        groups = groups_of(module)
        slots = [
            (number, Slot(table, key, host, None if repacked(host, pins.device) else parts(host)))
            for number, table, key, tensor in sorted(members(groups), key=lambda member: member[0])
            for host in (of_host(tensor),)
        ]
        found = [(number, slot) for number, slot in slots if slot.parts is not None]
        self.apart = [slot for _, slot in slots if slot.parts is None]
        held = held_of(found)
        arena = pack(held, pins, self)
        own = [h.region for h in held if arena is None or h.arena is not arena]
        pins.add(extents(own), [r.storage for r in own], owner=self)
        self.nbytes = placed(held)
        borrowers = _borrowers(groups, found, held)
        inside = {id(part) for whole in module.modules() if compiled(whole) for part in whole.modules()}
        self.blocks = tuple(
            _block(group, borrowers.get(number, []), inside, mine, pins)
            for number, group in enumerate(groups)
            if (mine := [h for h in held if h.group == number])
        )
        self.sizes = Blocks(
            fixed=sum(block.nbytes for block in self.blocks if not block.leaves),
            streamable=tuple(block.nbytes for block in self.blocks if block.leaves),
        )
        bases = [block.base for block in self.blocks]
        self.places: dict[int, tuple[int, int]] = {}
        for h in held:
            index = bisect_right(bases, h.place) - 1
            start = h.place - bases[index] - h.region.address
            self.places |= {id(tensor): (index, start + tensor.data_ptr()) for tensor in h.tensors}
        in_block: list[list[Slot]] = [[] for _ in self.blocks]
        leading = next(map(of_host, module.parameters()), None)
        self.first: int | None = None
        for _, slot in found:
            # Without a block there is no tensor with bytes; without a place a tensor has none.
            index = next(
                (self.places[id(part)][0] for part in slot.parts or () if id(part) in self.places), 0
            )
            if self.blocks:
                in_block[index].append(slot)
            if slot.host is leading and leading.numel():
                self.first = index
        self.entries = [*map(Entries, in_block)]
        self.paths: dict[str, Path] = {}
        """By entry point."""
        self.made: dict[int, Any] = {}
        """The device's tensors by block, for ``planner.streaming.tensors``."""
        self.rnns = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
        self.norms = {id(part._buffers): part for part in module.modules() if isinstance(part, _NormBase)}
        """By their table of buffers, those whose statistics torch may write without counting it."""
        self.seconds: dict[int, float] = {}
        """How long each block computed, where that is known, in the order in which they ran."""
        self._all = Entries([slot for _, slot in slots])
        self._parts = [part for _, slot in found for part in slot.parts or ()]
        self._lay = self._lies()
        self._modules = [*module.modules()]
        self._tables = _tables(self._modules)

    def pace(self) -> dict[int, float]:
        """Seconds that each of the blocks that may leave computes, by their index among those, in the order
        in which they ran; without those of which nothing is known."""
        free = {n: at for at, n in enumerate(n for n, block in enumerate(self.blocks) if block.leaves)}
        return {free[n]: seconds for n, seconds in self.seconds.items() if n in free}

    def rebuilt(self) -> bool:
        """Other modules, or more or fewer tensors, than were laid out; on the device too it can be asked."""
        return self._tables != _tables(self._modules)

    def stale(self) -> bool:
        """Tensors or modules came, went or moved since (a LoRA, another dtype): this is not their layout any
        more."""
        every, now = self._all, self._all.now()
        return self._moved() or not (
            all(map(is_, now, every.hosts)) or all(map(is_, map(of_host, now), every.hosts))
        )

    def untouched(self) -> bool:
        """The modules hold the host's tensors and no others, where they were laid out: in host memory."""
        there = all(slot.host.device.type == "cpu" for slot in self.apart)
        return there and self._all.hold(self._all.hosts) and not self._moved()

    def _moved(self) -> bool:
        return self.rebuilt() or self._lay != self._lies()

    def _lies(self) -> list[Any]:
        return [*lie(self._parts), *places([slot.host for slot in self.apart])]


def _borrowers(
    groups: tuple[Group, ...], found: list[tuple[int, Slot]], held: list[Held]
) -> dict[int, list[torch.nn.Module]]:
    """By group: who else must not run before: its reader, and modules of other groups that own one of
    its tensors too (T5's tied embeddings)."""
    bringer = {id(tensor): h.group for h in held for tensor in h.tensors}
    made: dict[int, list[torch.nn.Module]] = {
        number: [group.reader] for number, group in enumerate(groups) if group.reader is not None
    }
    owner_of = {id(owner._parameters): owner for group in groups for owner in group.owners}
    for number, slot in found:
        owner = owner_of.get(id(slot.table))
        for other in {bringer.get(id(part), number) for part in slot.parts or ()} - {number}:
            if owner is not None and owner not in made.setdefault(other, []):
                made[other].append(owner)
    return made


def _block(
    group: Group,
    borrowers: list[torch.nn.Module],
    inside: set[int],
    held: list[Held],
    pins: Pins,
) -> Block:
    base = min(h.place for h in held)
    return Block(
        group=group,
        entries=group.owners if group.reader or not group.root else tuple(_entries(group.root)),
        borrowers=tuple(module for module in borrowers if id(module) not in inside),
        compiled=any(id(module) in inside for module in borrowers),
        copies=tuple(copies(held, pins)),
        tensors=(tensors := tuple(tensor for h in held for tensor in h.tensors)),
        counted=tuple(tensor for tensor in tensors if not tensor.is_inference()),
        base=base,
        nbytes=max(h.place + device_bytes([h.region.nbytes]) for h in held) - base,
        leaves=may_leave(group) and not borrowers,
    )


def _entries(root: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Where a forward enters a subtree: a list is never called, what is in it is."""
    yield root
    if type(root).__name__ in CONTAINERS:
        for child in root.children():
            yield from _entries(child)


def _tables(modules: list[torch.nn.Module]) -> list[list[Any]]:
    """Of each module: which tables it has, how many tensors stand in them, which modules are in it, and
    whether it is compiled."""
    own, kept = [*map(attrgetter("_parameters"), modules)], [*map(attrgetter("_buffers"), modules)]
    inside = chain.from_iterable(map(methodcaller("values"), map(attrgetter("_modules"), modules)))
    calls = [*map(attrgetter("_compiled_call_impl"), modules)]
    whole = [*map(compiled, modules)] if calls.count(None) < len(calls) else []
    counts = ([*map(what, tables)] for what in (id, len) for tables in (own, kept))
    return [*counts, [*map(id, inside)], whole]
