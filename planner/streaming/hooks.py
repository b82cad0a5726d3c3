"""Which modules of a component are hooked, by what its last forwards did.

At first every module of every block is. Once they are known, only those through which a forward enters a
block, and then only those of the blocks that come and of what runs after one of them: each hook costs its
part of every forward. Code that reaches into a block past them finds the host's tensors and fails, rather
than reading what lies there; then, and where that could not be seen, every module is hooked."""

from __future__ import annotations

from collections.abc import Set
from itertools import groupby

import torch

from planner.host.layout import HostWeights, Path
from planner.streaming.watch import Call, Watch
from planner.target.blocks import compiled


class Hooks:
    """``turn`` is called before a block runs, ``need`` before one of its tensors is read by another.

    Invariants: ``_seen`` are the blocks that ran in this forward, of those that are hooked, by their turns:
    one that is entered again after others (the projections around a transformer's blocks) is there again;
    ``_hooked`` are the blocks whose hooks are on, all of ``inside`` but while it is known which may do
    without: then ``_seen`` is not all that ran, and no order is learnt."""

    def __init__(self, host: HostWeights, entry: str, turn: Call, need: Call, *, every_module: bool) -> None:
        """On no module yet. ``entry``: through which a forward is going to begin."""
        self.every_module = every_module
        self.inside = [n for n, block in enumerate(host.blocks) if block.group.root is not None]
        """The blocks that may be hooked."""
        self.passes = 0
        """Forwards through this entry point, since it is on the device."""
        self._host = host
        self._turn = turn
        self._need = need
        self._watch = Watch()
        self._entry = entry
        self._path = host.paths.setdefault(entry, Path())
        self._seen: list[int] = []
        self._entered: dict[int, dict[torch.nn.Module, None]] = {}
        self._hooked = {*self.inside}
        self._late = False

    @property
    def order(self) -> list[int]:
        """In which blocks are going to run, by their turns."""
        return self._path.order or self.inside

    @property
    def is_last(self) -> bool:
        """Whether no other forward follows this one, by how many there were the last time."""
        return self.passes + 1 == self._path.passes

    def runs(self, index: int, module: torch.nn.Module) -> None:
        """A block begins by ``module``, after another or as the first."""
        self._entered.setdefault(index, {})[module] = None
        self._seen.append(index)

    def late(self) -> None:
        """A block was not there in time: the order is another one, or what runs before it lay in its
        place."""
        self._late = True

    def learn(self, comes: Set[int]) -> list[int]:
        """A forward is over: what ran will run so again, and what did not run is not fetched before it is
        called. Hooks what is to be hooked, with ``comes`` the blocks that come and go; returns the turns."""
        seen, self._seen = self._seen, []
        if not seen:
            return seen
        self.passes += 1
        self._path.entries |= {index: tuple(modules) for index, modules in self._entered.items()}
        self._entered = {}
        known = [index for index, _ in groupby(n for n in self._path.order if n in self._hooked)]
        surprised = self._late and seen != known
        self._late, thin = False, len(self._hooked) < len(self.inside)
        if not thin:
            self._path.order = seen
        if thin and surprised:
            self.put()
        elif self.passes > 1 and not (thin or surprised or self.every_module):
            self.put({b for a, b in zip(seen, (*seen[1:], seen[0]), strict=True) if a in comes} | comes)
        return seen

    def enter(self, entry: str) -> bool:
        """A forward begins through ``entry``. Whether that is another one."""
        if entry == self._entry:
            return False
        self._entry, self._path = entry, self._host.paths.setdefault(entry, Path())
        self.passes = 0
        self.put()
        return True

    def put(self, wanted: Set[int] | None = None) -> None:
        """On the blocks ``wanted`` and no others; None: on all."""
        self._hooked = {i for i in self.inside if wanted is None or i in wanted or i == self._host.first}
        for index in self.inside:
            if index in self._hooked:
                self.hook(index)
            else:
                self._watch.forget(index)

    def hook(self, index: int) -> None:
        """On the modules through which a block was entered; on all of them before that is known."""
        self._watch.forget(index)
        block = self._host.blocks[index]
        owners = block.group.owners
        if index in self._path.entries and not self.every_module and index != self._host.first:
            owners = tuple({*block.entries, *self._path.entries[index]})
        if compiled(block.group.root):
            owners = (block.group.root,)
        self._watch.set(index, owners, self._turn)
        self._watch.set(index, block.borrowers, self._need)

    def forget(self, index: int) -> None:
        """A block needs none any more."""
        self._watch.forget(index)

    def take_off(self) -> None:
        """All of them: no forward follows before ``put``."""
        self._path.passes = self.passes
        self._watch.clear()

    def begin_again(self) -> None:
        """What was known of the forwards before is not taken for those that follow."""
        self.passes, self._hooked = 0, {*self.inside}
