"""Weights' names as a tree of modules, for what only reads names and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


def tree_of(tensors: Iterable[tuple[str, int]], buffers: Iterable[tuple[str, int]] = ()) -> Tree:
    """The tree of tensors given as ``(name, bytes)``."""
    tree = Tree()
    for name, nbytes in tensors:
        tree.add(name, nbytes)
    for name, nbytes in buffers:
        tree.add(name, nbytes, buffer=True)
    return tree


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as far as a file's header tells."""

    nbytes: int

    def numel(self) -> int:
        """Elements, as if of one byte."""
        return self.nbytes

    def element_size(self) -> int:
        """One byte."""
        return 1


class Tree:
    """Stands for a torch module: ``blocks.0.weight`` is ``weight`` of ``0`` of ``blocks``."""

    def __init__(self) -> None:
        """Empty."""
        self._children: dict[str, Tree] = {}
        self._parameters: dict[str, Weight] = {}
        self._buffers: dict[str, Weight] = {}

    def add(self, name: str, nbytes: int, *, buffer: bool = False) -> None:
        """A tensor of ``nbytes``."""
        head, dot, rest = name.partition(".")
        if dot:
            self._children.setdefault(head, Tree()).add(rest, nbytes, buffer=buffer)
        else:
            (self._buffers if buffer else self._parameters)[head] = Weight(nbytes)

    @property
    def numbered(self) -> bool:
        """Its children have numbers for names: a Sequential or a ModuleList, which only call them."""
        return bool(self._children) and all(name.isdigit() for name in self._children)

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
        """All below; those of a file are told as parameters, a header has no difference."""
        for module in self.modules():
            yield from module._buffers.values()
