"""A pipeline as bytes without its weights, for another process that has those at hand.

Pickle, with a number in place of each tensor that a component's weights are made of. What was done to a
pipeline once (read, cast, quantized, given LoRAs) needs not be done again where it is put together.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, cast

import torch

from planner.forms.quantized import Saved
from planner.forms.wrapped import BESIDE, parts, plain
from planner.session.checks import modules_of
from planner.target.blocks import groups_of, members


class Inseparable(Exception):
    """A pipeline that another process cannot be given; what it says is why."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A tensor of host memory that ``component`` has first. ``state``: a buffer, which may be written."""

    tensor: torch.Tensor
    component: str
    state: bool


@dataclass(frozen=True, slots=True)
class Apart:
    """``data`` for ``put_together``, with ``tensors`` or with others like them in the same order."""

    data: bytes
    tensors: tuple[Numbered, ...]


def taken_apart(pipe: Any) -> Apart:
    """A pipeline on the host that no plan is applied to; it stays as it is. The tensors of a component are in
    the order in which a device is given them. Raises Inseparable."""
    found = tuple(_numbered(pipe))
    made = io.BytesIO()
    try:
        _Pickler(made, {id(one.tensor): number for number, one in enumerate(found)}).dump(pipe)
        again = put_together(made.getvalue(), [one.tensor for one in found])
    except Exception as error:  # whatever a library's class does when it is pickled
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise Inseparable(f"{type(pipe).__name__} cannot be pickled: {said}") from error
    if (other := next(_differences(pipe, again), None)) is not None:
        raise Inseparable(f"pickled, {other} is not what it was")
    return Apart(made.getvalue(), found)


def put_together(data: bytes, tensors: Sequence[torch.Tensor]) -> Any:
    """The pipeline. ``data`` is of our own process or of one that we started: pickle runs what it says."""
    return _Unpickler(io.BytesIO(data), tensors).load()


def _numbered(pipe: Any) -> Iterator[Numbered]:
    seen: set[int] = set()
    for name, module in modules_of(pipe).items():
        state = {id(part) for buffer in module.buffers() for part in parts(buffer) or ()}
        for _, _, _, tensor in sorted(members(groups_of(module)), key=lambda member: member[0]):
            for part in parts(tensor) or ():
                if part.numel() and id(part) not in seen:
                    seen.add(id(part))
                    yield Numbered(part, name, id(part) in state)


def _differences(pipe: Any, other: Any) -> Iterator[str]:
    """Names of weights that are not alike in both: by their kinds and shapes, and which are one tensor."""
    there = modules_of(other)
    for name, module in modules_of(pipe).items():
        mine, others = _weights(module), _weights(there[name])
        yield from (f'"{name}.{path}"' for path in mine if mine[path] != others.get(path))
        yield from (f'"{name}.{path}"' for path in others.keys() - mine.keys())


def _weights(module: torch.nn.Module) -> dict[str, tuple[Any, ...]]:
    first: dict[int, str] = {}
    found = {}
    for named in (module.named_parameters, module.named_buffers):
        for path, tensor in named(remove_duplicate=False):
            inside = [(type(part), part.dtype, part.shape, part.stride()) for part in parts(tensor) or ()]
            kind = (type(tensor), tensor.dtype, tensor.shape, tensor.requires_grad)
            found[path] = (kind, inside, first.setdefault(id(tensor), path))
    return found


@dataclass(frozen=True, slots=True)
class _Number:
    """Is pickled as the tensor of that number."""

    number: int


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, numbers: dict[int, int]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._numbers = numbers

    def persistent_id(self, found: Any) -> int | None:
        if type(found) is _Number:
            return found.number
        if isinstance(found, torch.Tensor) and plain(found):
            return self._numbers.get(id(found))
        return None

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, Saved):  # a copy has none, this is no copy
            return Saved, ()
        if isinstance(found, MethodType) and isinstance(found.__func__, partial):
            return _bound, (found.__func__, found.__self__)  # pickle asks for a name (torchao's extra_repr)
        if not isinstance(found, torch.Tensor) or plain(found):
            return NotImplemented
        of = type(found), isinstance(found, torch.nn.Parameter), found.requires_grad
        if hasattr(found, "__tensor_flatten__"):
            names, context = found.__tensor_flatten__()
            inside = {name: getattr(found, name) for name in names}
            return _flattened, (*of, inside, context, found.shape, found.stride())
        if type(found).__name__ in BESIDE and id(found) in self._numbers:
            # The state comes last: it may lead back to the tensor.
            made = (type(found), _Number(self._numbers[id(found)]), found.requires_grad)
            return _beside, made, vars(found), None, None, _with
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: Sequence[torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> torch.Tensor:
        return self._tensors[pid]


def _flattened(
    cls: Any, is_parameter: bool, requires_grad: bool, inside: Any, context: Any, *shape: Any
) -> torch.Tensor:
    made: torch.Tensor = cls.__tensor_unflatten__(inside, context, *shape)
    return torch.nn.Parameter(made, requires_grad=requires_grad) if is_parameter else made


def _beside(cls: Any, data: torch.Tensor, requires_grad: bool) -> torch.Tensor:
    return cast(torch.Tensor, torch.Tensor._make_subclass(cls, data, requires_grad))


def _with(made: torch.Tensor, state: dict[str, Any]) -> None:
    vars(made).update(state)


def _bound(function: Any, owner: Any) -> MethodType:
    return MethodType(function, owner)
