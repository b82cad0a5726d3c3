"""Weights' names as a tree of modules, for what only reads names and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as far as a file's header tells."""

    count: int
    size: int

    def numel(self) -> int:
        """Elements."""
        return self.count

    def element_size(self) -> int:
        """Bytes of each."""
        return self.size


class Tree:
    """Stands for a torch module: ``blocks.0.weight`` is ``weight`` of ``0`` of ``blocks``."""

    def __init__(self) -> None:
        """Empty."""
        self._children: dict[str, Tree] = {}
        self._parameters: dict[str, Weight] = {}
        self._buffers: dict[str, Weight] = {}

    def add(self, name: str, count: int, size: int) -> None:
        """A tensor of ``count`` elements of ``size`` bytes."""
        head, dot, rest = name.partition(".")
        if dot:
            self._children.setdefault(head, Tree()).add(rest, count, size)
        else:
            self._parameters[head] = Weight(count, size)

    def children(self) -> Iterator[Tree]:
        """As torch's."""
        yield from self._children.values()

    def modules(self) -> Iterator[Tree]:
        """As torch's: itself first."""
        yield self
        for child in self._children.values():
            yield from child.modules()

    def parameters(self) -> Iterator[Weight]:
        """All below."""
        for module in self.modules():
            yield from module._parameters.values()

    def buffers(self) -> Iterator[Weight]:
        """None: a header does not tell them from parameters."""
        yield from ()
