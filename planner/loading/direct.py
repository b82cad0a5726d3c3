"""Weights from their files straight into host memory, where they stay.

``from_pretrained`` reads nothing of a weight that is stored as it will be used: the parameter is a view of
the mapped file (safetensors 0.8, ``safe_open``). So the libraries build the model, with all that is theirs to
decide (names, dtypes, ties, buffers, attributes), and what they left in files is read here: each byte once,
by several threads, into memory that a session registers where it lies. What they converted is in memory
already, and a session takes it as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from planner.device.mapped import copy_out
from planner.device.pinned import fresh_pages
from planner.diagnostics.diagnostic import PlanError
from planner.loading.failure import explain
from planner.plan.model import Plan
from planner.session.checks import modules_of
from planner.session.host import PACKED
from planner.session.ram import short_of_memory
from planner.session.unread import Unread, unread, unread_bytes
from planner.session.weights import Region
from planner.target.model import ALIGNMENT


def load_in(plan: Plan, pipe: Any) -> None:
    """``read_in`` for a plan's pipeline; components with quantization rules stay as they are. Raises
    PlanError."""
    sources = plan.document.sources
    if problems := [*short_of_memory(plan, unread_bytes(modules_of(pipe).values()))]:
        raise PlanError(problems, sources)
    try:
        read_in(pipe, without={rule.component for rule in plan.quantization})
    except OSError as error:
        raise PlanError([explain(error, plan, None)], sources) from error


def read_in(pipe: Any, without: Collection[str] = ()) -> dict[str, int]:
    """Reads what lies in files, and says how many bytes of each component that were.

    ``without``: components that are left as they are. Tensors keep their identity, and each has a storage
    of its own. Raises OSError.
    """
    return {name: _read_in(module) if name not in without else 0 for name, module in modules_of(pipe).items()}


def _read_in(module: torch.nn.Module) -> int:
    found = unread(module)
    # What a session packs again lies apart: when it has, that memory is free.
    small = [u for u in found if u.region.nbytes < PACKED]
    large = [u for u in found if u.region.nbytes >= PACKED]
    with torch.inference_mode(False), torch.no_grad():
        moves = [*_moved(small), *_moved(large)]
        copy_out((old.region.bytes(), new.bytes()) for old, new in moves)
        for old, new in moves:
            for tensor in old.tensors:
                tensor.data = _over(new, tensor.data_ptr() - old.region.address, tensor)
    return sum(u.region.nbytes for u in found)


def _moved(found: list[Unread]) -> list[tuple[Unread, Region]]:
    """Each region with its place in fresh memory, at a multiple of ALIGNMENT."""
    total = sum(_aligned(u.region.nbytes) for u in found)
    if not total:
        return []
    pages, at, made = fresh_pages(total), 0, []
    for u in found:
        # A storage of its own: what is saved or copied is the tensor, not its neighbours.
        target = torch.frombuffer(pages, dtype=torch.uint8, count=u.region.nbytes, offset=at)
        made.append((u, Region(target.untyped_storage(), 0, u.region.nbytes)))
        at += _aligned(u.region.nbytes)
    return made


def _over(region: Region, offset: int, like: torch.Tensor) -> torch.Tensor:
    made = torch.empty(0, dtype=like.dtype)
    return made.set_(region.storage, offset // like.element_size(), like.shape, like.stride())


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
