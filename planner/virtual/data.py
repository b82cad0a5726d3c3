"""``tensor.data = value`` from one device to the other, as CUDA allows it and ``nn.Module.to`` relies on it.

A parameter that goes to a card and back is the same object: it stays tied, and its optimizer's. A tensor of
the virtual card is of another class, for which torch would make a new parameter instead. Here the object
itself takes the class and the bytes of ``value``, and its ``.grad`` goes with it. Hooks on the tensor do not.
"""

from __future__ import annotations

from typing import Any

import torch

from planner.virtual.tensor import SimTensor

_base: Any = torch._C.TensorBase
_swap: Any = torch._C._swap_tensor_impl
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_OURS = ("elem", "block", "generation", "_is_param")


def install() -> None:
    """For every tensor of the process."""
    anything: Any = torch
    compatible = anything._has_compatible_shallow_copy_type

    # of torch's signature: its compiler has a rule for the function, and compares
    def can_be_data(input: torch.Tensor, from_: torch.Tensor) -> bool:
        return _crosses(input, from_) or bool(compatible(input, from_))

    anything._has_compatible_shallow_copy_type = can_be_data
    anything.Tensor.data = property(_base.data.__get__, _set)


def _crosses(tensor: Any, value: Any) -> bool:
    """Whether one is on the virtual card and the other on the host, and the object can change its class."""
    kinds = {type(tensor), type(value)}
    return SimTensor in kinds and len(kinds & {*_PLAIN}) == 1 and tensor.is_leaf


def _set(tensor: Any, value: Any) -> None:
    if _crosses(tensor, value):
        _become(tensor, value)
        return
    _base.data.__set__(tensor, value)
    if isinstance(tensor, SimTensor):
        tensor.lie(value.elem, value.block, value.generation + 1)


def _become(tensor: Any, value: Any) -> None:
    grad, wanted = tensor.grad, tensor.requires_grad
    tensor.grad = None
    other = value.detach()
    if isinstance(tensor, torch.nn.Parameter):
        other = torch.nn.Parameter(other, requires_grad=wanted)
    tensor.__class__, other.__class__ = other.__class__, tensor.__class__
    for key in _OURS:  # what users have hung on the object stays with it
        tensor.__dict__.pop(key, None)
    tensor.__dict__.update(other.__dict__)
    other.__dict__.clear()
    _swap(tensor, other)
    if isinstance(tensor, SimTensor):
        tensor.lie(tensor.elem, tensor.block, tensor.generation)  # it is another object
    tensor.requires_grad_(wanted)
    if grad is not None:
        moved = grad.to(tensor.device)
        if grad.is_leaf:
            grad.data = moved
        tensor.grad = grad if grad.is_leaf else moved
