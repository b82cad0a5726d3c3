"""Entries of modules' tables, by columns: what is asked of each of thousands of tensors is asked by one call
of C for all of them, and by Python only of those that are not as they should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import Any

import torch

from planner.host.regions import Slot, Table

_version = attrgetter("_version")
_dtype = attrgetter("dtype")
_shape = attrgetter("shape")
_device = attrgetter("device")


class Entries:
    """``slots``, with their ``tables``, ``keys`` and the ``hosts``' tensors as columns of their own."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        """Changes nothing."""
        self.slots = slots
        self.tables: list[Table] = [slot.table for slot in slots]
        self.keys = [slot.key for slot in slots]
        self.hosts = [slot.host for slot in slots]

    def now(self) -> list[torch.Tensor | None]:
        """What stands in them."""
        return [*map(dict.get, self.tables, self.keys)]

    def hold(self, tensors: Iterable[torch.Tensor]) -> bool:
        """Whether they hold these very tensors, one each."""
        return all(map(is_, self.now(), tensors))

    def put(self, tensors: Iterable[torch.Tensor]) -> None:
        """One in each."""
        for table, key, tensor in zip(self.tables, self.keys, tensors, strict=True):
            table[key] = tensor


def versions(tensors: Iterable[torch.Tensor]) -> list[int]:
    """How often each was written in place. Inference tensors do not count it."""
    return [*map(_version, tensors)]


def places(tensors: Iterable[torch.Tensor]) -> list[Any]:
    """Of each the device and the dtype."""
    return [*map(_device, tensors), *map(_dtype, tensors)]


def lie(tensors: Sequence[torch.Tensor]) -> list[Any]:
    """Of each where it lies, with its dtype and shape."""
    return [*map(torch.Tensor.data_ptr, tensors), *map(_dtype, tensors), *map(_shape, tensors)]
