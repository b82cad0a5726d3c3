"""How an operation runs on the virtual accelerator: on the CPU's kernels, under CUDA's rules.

The rules that matter to offloading are about mixed devices; they are those of torch's CUDA kernels
(2.13): a zero-dimensional CPU tensor may take part in most operations, index tensors may stay on
the CPU, ``copy_`` and ``to`` go anywhere, everything else raises the RuntimeError that users know.
"""

from __future__ import annotations

from typing import Any

import torch

from planner.virtual.tensor import BACKEND, SimTensor, sync, wrap

# These compute the same as their decompositions, but not always bit for bit: the CPU picks another
# kernel for the whole (fused attention, a folded addmm). Taken whole, the results are the CPU's.
WHOLE = (
    "linear",
    "matmul",
    "einsum",
    "scaled_dot_product_attention",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "batch_norm",
    "lstm.input",
    "gru.input",
)
# These the CPU computes by kernels of its own, though torch could compose them.
OWN = ("silu_backward", "mish_backward", "native_channel_shuffle")

_ANY_DEVICE = {"copy_", "_to_copy", "_copy_from", "_copy_from_and_resize", "_local_scalar_dense", "set_"}
_HOST_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_HOST_ARGUMENT = {"_pack_padded_sequence"}  # lengths are wanted on the host
_NO_SCALARS = {"cat", "stack", "gather", "scatter", "scatter_", "index_select", "embedding", "take"}
_PIN = {"pin_memory", "_pin_memory"}


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry out ``func``. Raises RuntimeError where CUDA would: mixed devices, pinning device memory."""
    name = func._schema.name.partition("::")[2]
    sims: list[SimTensor] = []
    hosts: list[torch.Tensor] = []
    plain = tuple(_plain(arg, sims, hosts) for arg in args)
    named = {key: _plain(value, sims, hosts) for key, value in kwargs.items()}

    target = named.get("device")
    if target is not None:
        target = torch.device(target)
        if target.type == BACKEND:
            if target.index not in (None, 0):
                raise RuntimeError(f"sim error: invalid device ordinal {target.index}, there is only sim:0")
            if named.get("pin_memory"):
                raise RuntimeError("Only dense CPU tensors can be pinned")
            named["device"] = torch.device("cpu")
    if sims:
        if name in _PIN:
            raise RuntimeError(
                f"cannot pin 'torch.{BACKEND}.FloatTensor' only dense CPU tensors can be pinned"
            )
        if name == "is_pinned":
            return False
        if name == "record_stream":
            return None
        if hosts:
            _refuse_mixing(func, name, args, kwargs, hosts)
        if not _is_view(func):
            for tensor in sims:
                if tensor.block.owner is not None:
                    tensor.block.owner.touch(tensor.elem, name)

    if name in ("_copy_from", "_copy_from_and_resize"):
        source, destination = plain[0], plain[1]
        if name == "_copy_from_and_resize":
            destination.resize_(source.shape)
        destination.copy_(source)
        out = destination
    else:
        out = func(*plain, **named)

    if name == "set_" and isinstance(args[0], SimTensor) and len(sims) > 1:
        args[0].lie(args[0].elem, sims[1].block, sims[1].generation + 1)
    on_device = bool(sims) if target is None else target.type == BACKEND
    if name == "copy_":
        on_device = isinstance(args[0], SimTensor)
    if not on_device and not func._schema.is_mutable:
        return out
    return _device_results(out, sims, on_device)


def _plain(value: Any, sims: list[SimTensor], hosts: list[torch.Tensor]) -> Any:
    """``value`` with the CPU tensors in place of ours; who took part is noted."""
    if isinstance(value, SimTensor):
        sims.append(value)
        return value.elem
    if isinstance(value, torch.Tensor):
        hosts.append(value)
        return value
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return type(value)([_plain(item, sims, hosts) for item in value])
    return value


def _refuse_mixing(
    func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], hosts: list[torch.Tensor]
) -> None:
    if name in _ANY_DEVICE or name in _HOST_ARGUMENT:
        return
    if name in _HOST_INDEX:
        if not isinstance(args[0], SimTensor):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        indices = [index for index in args[1] if index is not None]
        hosts = [host for host in hosts if not any(host is index for index in indices)]
    written = _written(func, args, kwargs)
    for host in hosts:
        scalar = host.dim() == 0 and name not in _NO_SCALARS and not any(host is w for w in written)
        if not scalar:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{BACKEND}:0 and {host.device}! (when running {func}, a tensor of shape {tuple(host.shape)})"
            )


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if not func._schema.is_mutable:
        return []
    found = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[position] if position < len(args) else kwargs.get(argument.name))
    return found


_views: dict[Any, bool] = {}


def _is_view(func: Any) -> bool:
    """Whether ``func`` makes another view and touches no byte (``detach``, ``view``, ``as_strided``)."""
    known = _views.get(func)
    if known is None:
        returns = func._schema.returns
        known = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        _views[func] = known
    return known


def _device_results(out: Any, sims: list[SimTensor], on_device: bool) -> Any:
    if isinstance(out, torch.Tensor):
        for tensor in sims:
            if out is tensor.elem:  # in place, or `out=`: the same object goes back
                sync(tensor)
                return tensor
        if not on_device or isinstance(out, SimTensor):
            return out
        storage = out.untyped_storage()._cdata
        for tensor in sims:
            if tensor.elem.untyped_storage()._cdata == storage:
                # Inside or outside of inference mode, a view is an inference tensor where its base is one.
                with torch.inference_mode(tensor.is_inference()):
                    return wrap(out, tensor.block, tensor.generation + 1)
        return wrap(out)
    if isinstance(out, (list, tuple)):
        results = [_device_results(item, sims, on_device) for item in out]
        return results if isinstance(out, list) else tuple(results)
    return out
