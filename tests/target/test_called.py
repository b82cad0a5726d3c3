"""What is known of a module's use of its children, and what may therefore come apart."""

from __future__ import annotations

import functools
import types
from typing import Any

import pytest
import torch

from planner.target import blocks
from planner.target.blocks import blocks_of
from planner.target.called import only_called
from planner.target.tree import tree_of


class Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.linear(x)


class Calls(torch.nn.Module):
    """A module and two layers, which it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Scale()
        self.up = torch.nn.Linear(8, 32)
        self.down = torch.nn.Linear(32, 8)
        self.width = self.up.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._through(self.norm(x)) * self.width

    def _through(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x))


class Inherits(Calls):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


class Reads(Calls):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.up.weight)


class ReadsInAnother(Calls):
    @property
    def dtype(self) -> torch.dtype:
        return self.down.weight.dtype


class ReadsAndKeeps(Calls):
    @functools.cached_property
    def scale(self) -> torch.Tensor:
        return self.down.weight.amax()


class HandsOn(Calls):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _elsewhere(self, x)


class HandsOnAChild(Calls):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _elsewhere(self.up, x)


class LooksThrough(Calls):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * next(self.parameters())


class OtherNames(Calls):
    def forward(this, x: torch.Tensor) -> torch.Tensor:
        return x @ this.up.weight


class Assigned(Calls):
    forward = torch.no_grad()(lambda self, x: x @ self.up.weight)


def _elsewhere(module: Any, x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.parametrize("cls", [Calls, Inherits])
def test_what_is_only_called(cls: type[Calls]) -> None:
    assert only_called(cls())


@pytest.mark.parametrize(
    "cls",
    [Reads, ReadsInAnother, ReadsAndKeeps, HandsOn, HandsOnAChild, LooksThrough, OtherNames, Assigned],
)
def test_what_may_be_read_uncalled(cls: type[Calls]) -> None:
    assert not only_called(cls())


def test_what_was_put_over_the_class_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Calls()
    module.forward = types.MethodType(Reads.forward, module)  # type: ignore[method-assign]
    assert not only_called(module)
    assert only_called(Calls())
    monkeypatch.setattr(Calls, "forward", Reads.forward)
    assert not only_called(Calls())


def test_where_there_is_no_source_nothing_is_known() -> None:
    made: dict[str, Any] = {"torch": torch, "Calls": Calls}
    exec("class Made(Calls):\n    def forward(self, x):\n        return self.up(x)", made)
    assert not only_called(made["Made"]())
    assert not only_called(tree_of([("up.weight", 8)]))


@pytest.mark.parametrize(("cls", "pieces"), [(Calls, 3), (Reads, 1)])
def test_a_block_comes_in_as_many_pieces_as_are_known_to_be_called(
    cls: type[Calls], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LEAST", 0)
    monkeypatch.setattr(blocks, "LIGHT", 0)
    module = torch.nn.Module()
    module.blocks = torch.nn.ModuleList(cls() for _ in range(60))
    counted = blocks_of(module)
    assert counted.fixed == 0
    assert len(counted.streamable) == 60 * pieces
    named = tree_of((name, tensor.nbytes) for name, tensor in module.named_parameters())
    assert len(blocks_of(named).streamable) == 60  # a file's names do not say who calls


@pytest.mark.parametrize(("cls", "left"), [(Calls, 0), (Reads, 2)])
def test_leaves_beside_what_is_split_come_where_they_are_only_called(
    cls: type[Calls], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a block of experts, or one that has its projections beside its attention."""
    monkeypatch.setattr(blocks, "LIGHT", 0)
    module: Any = torch.nn.Module()
    module.head = torch.nn.Linear(8, 8)
    module.blocks = torch.nn.ModuleList(cls() for _ in range(4))
    counted = blocks_of(module)
    own = sum(p.nbytes for p in module.head.parameters())
    kept = sum(p.nbytes for b in module.blocks for leaf in (b.up, b.down) for p in leaf.parameters())
    rounding = 512 * 2 * (1 + 8)
    assert abs(counted.fixed - own - kept * left // 2) <= rounding
    assert len(counted.streamable) == 4 * (3 - left)
