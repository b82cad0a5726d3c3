"""How many references a tensor and a storage have, so that memory which somebody still reads is left alone.

Views, detached tensors, arrays of numpy and DLPack capsules are references to a storage; names, lists and
what autograd saved are references to the tensor itself (seen with torch 2.13: by Python's count; with 2.11
also by torch's own). Raw addresses (``data_ptr``, a captured CUDA graph) are neither and are not seen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import NO_COUNTS

_core: Any = torch._C


def storage_references(storage: int) -> int:
    """Tensors, and others, that refer to a storage, by its address (``UntypedStorage._cdata``)."""
    return int(_core._storage_Use_Count(storage))


def tensor_references(tensors: Sequence[torch.Tensor]) -> list[int]:
    """References to each tensor, Python's and torch's: to be compared with what the same sequence gave
    before, as it counts that and the arguments of this call too."""
    return [*map(sys.getrefcount, tensors), *map(_core.TensorBase._use_count, tensors)]


def require_counts() -> None:
    """Raises PlanError (P732) where this torch or this Python does not count."""
    try:
        missed = [name for name, alias in _ALIASES.items() if not _seen(alias)]
    except (AttributeError, TypeError, RuntimeError) as error:
        missed = [str(error)]
    if missed:
        said = f"torch {torch.__version__} does not tell who refers to a tensor ({', '.join(missed)})"
        hint = "without it, memory that somebody still reads could be overwritten; torch 2.6 to 2.13 tell"
        raise PlanError([finding(NO_COUNTS, said, hint=hint)])


_ALIASES: dict[str, Any] = {
    "a view": lambda weight: weight.view(4),
    "a detached tensor": lambda weight: weight.detach(),
    "a name": lambda weight: [weight],
    "autograd": lambda weight: torch.nn.functional.linear(torch.ones(1, 2, requires_grad=True), weight),
}


def _seen(alias: Any) -> bool:
    with torch.inference_mode(False), torch.enable_grad():
        base = torch.zeros(16, dtype=torch.uint8)
        weight = torch.nn.Parameter(torch.empty(0).set_(base.untyped_storage(), 0, (2, 2), (2, 1)))
        storage = base.untyped_storage()._cdata

        def count() -> tuple[int, list[int]]:
            return storage_references(storage), tensor_references((weight,))

        before = count()
        kept = alias(weight)
        found = count()
        del kept
        return found != before and count() == before
