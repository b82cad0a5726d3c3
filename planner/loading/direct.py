"""Weights from their files straight into host memory, where they stay.

``from_pretrained`` reads nothing of a weight that is stored as it will be used: the parameter is a view of
the mapped file (safetensors 0.8, ``safe_open``). So the libraries build the model, with all that is theirs to
decide (names, dtypes, ties, buffers, attributes), and what they left in files is read here: each byte once,
by several threads, into memory that a session registers where it lies. What they converted is in memory
already, and a session takes it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from planner.device.mapped import copy_out
from planner.diagnostics.diagnostic import PlanError
from planner.host.regions import Region, fresh_regions, lay_over
from planner.host.unread import Unread, unread, unread_bytes
from planner.loading.failure import explain
from planner.plan.model import Plan
from planner.session.checks import modules_of
from planner.session.ram import short_of_memory
from planner.target.extents import is_packed

Bar = Callable[[int], AbstractContextManager[Callable[[int], object]]]
"""Shown while so many bytes are read, and told of those that are."""


@contextmanager
def no_bar(total: int) -> Iterator[Callable[[int], object]]:
    """Shows nothing."""
    yield lambda nbytes: None


def load_in(plan: Plan, pipe: Any, bar: Bar = no_bar) -> None:
    """``read_in`` for a plan's pipeline; components with quantization rules stay as they are. Raises
    PlanError."""
    sources = plan.document.sources
    if problems := [*short_of_memory(plan, unread_bytes(modules_of(pipe)))]:
        raise PlanError(problems, sources)
    try:
        read_in(pipe, without={rule.component for rule in plan.quantization}, bar=bar)
    except OSError as error:
        raise PlanError([explain(error, plan, None)], sources) from error


def read_in(pipe: Any, without: Collection[str] = (), bar: Bar = no_bar) -> dict[str, int]:
    """Reads what lies in files, and says how many bytes of each component that were.

    ``without``: components that are left as they are. What components share is read once, and counted for the
    first. Tensors keep their identity, and have storages of their own, aligned. Raises OSError.
    """
    found = unread({name: module for name, module in modules_of(pipe).items() if name not in without})
    with torch.inference_mode(False), torch.no_grad():
        moves = [move for regions in found.values() for move in _moved(regions)]
        with bar(sum(new.nbytes for _, new in moves)) as tell:
            copy_out(((old.region.bytes(), new.bytes()) for old, new in moves), tell)
        for old, new in moves:
            lay_over(old.tensors, old.region, new)
    return {name: sum(u.region.nbytes for u in regions) for name, regions in found.items()}


def _moved(found: list[Unread]) -> Iterator[tuple[Unread, Region]]:
    """Each region with its place in fresh memory. What a session packs again lies apart from the rest: that
    memory is free when it has."""
    yield from _placed([u for u in found if is_packed(u.region.nbytes)])
    yield from _placed([u for u in found if not is_packed(u.region.nbytes)])


def _placed(found: list[Unread]) -> Iterator[tuple[Unread, Region]]:
    if found:
        _, regions = fresh_regions([u.region.nbytes for u in found])
        yield from zip(found, regions, strict=True)
