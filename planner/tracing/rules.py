"""Operations that meta tensors answer otherwise than a GPU, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from planner.tracing import convolution, operations
from planner.tracing.tensor import CUDA, KEEP, META, Traced, emptied, known

if TYPE_CHECKING:
    from planner.tracing.mode import Tracer

aten = torch.ops.aten


def _convolve(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """The output is there before the scratch is taken."""
    source, weight = args[:2]
    if not isinstance(source, Traced) and not isinstance(weight, Traced):
        return NotImplemented
    _, stride, padding, dilation, transposed, more, groups = args[2:9]
    a, w = (t.meta if isinstance(t, Traced) else emptied(t) for t in (source, weight))
    out = convolution.output(a, w, stride, padding, dilation, transposed, more, groups)
    if source.device.type != "cuda":
        return Traced(out, source.device)
    ledger = tracer.ledger
    contiguous = a.is_contiguous() or a.dim() != w.dim() or convolution.channels_last(a)
    made = tracer.made(out, CUDA)
    if not contiguous:
        ledger.borrow(operations.nbytes(a))  # cuDNN takes it contiguous
    ledger.borrow(convolution.scratch(tracer.kernels, a, w, out, groups), spare=True)
    size = sum(map(operations.nbytes, (a, w, out)))
    flops = convolution.flops(w, a, out, transposed)
    batch = out.shape[0] if a.dim() == w.dim() else 1
    places, volume = out[0, 0].numel() if a.dim() == w.dim() else out[0].numel(), w[0, 0].numel()
    shape = (batch, a.shape[1 if a.dim() == w.dim() else 0], out.shape[1 if a.dim() == w.dim() else 0])
    ledger.count("conv", operations.name(a.dtype), flops, size, (*shape, places, volume))
    return made


def _normed(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """``native_group_norm`` makes its input contiguous, and its output is."""
    if not isinstance(args[0], Traced) or args[0].device.type != "cuda":
        return NotImplemented
    a, (n, _, _, groups) = args[0].meta, args[3:7]
    outs: tuple[torch.Tensor, ...] = (torch.empty(a.shape, dtype=a.dtype, device=META),)
    outs += tuple(torch.empty((n, groups), dtype=a.dtype, device=META) for _ in range(2))
    if not a.is_contiguous():
        tracer.ledger.borrow(operations.nbytes(a))
    return _counted(tracer, func, args, outs)


def _layer_normed(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """``native_layer_norm`` keeps mean and deviation, in float32 for half precision."""
    if not isinstance(args[0], Traced) or args[0].device.type != "cuda":
        return NotImplemented
    a, width = args[0].meta, len(args[1])
    lead = [*a.shape[: a.dim() - width], *[1] * width]
    dtype = torch.float32 if a.dtype in (torch.float16, torch.bfloat16) else a.dtype
    outs: tuple[torch.Tensor, ...] = (torch.empty(a.shape, dtype=a.dtype, device=META),)
    outs += tuple(torch.empty(lead, dtype=dtype, device=META) for _ in range(2))
    return _counted(tracer, func, args, outs)


def _counted(tracer: Tracer, func: Any, args: Any, outs: tuple[torch.Tensor, ...]) -> tuple[Traced, ...]:
    made = tuple(tracer.made(out, CUDA) for out in outs)
    operations.count(tracer.ledger, func, operations.shapes(args), (), outs)
    return made


def _upsampled(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """The output is NCHW, as CUDA's kernels leave it."""
    source = args[0]
    if not isinstance(source, Traced) or source.device.type != "cuda":
        return NotImplemented
    bare = [t.meta if isinstance(t, Traced) else t for t in args]
    out = func(*bare, **kwargs)
    laid = torch.empty(out.shape, dtype=out.dtype, device=META)
    if not source.meta.is_contiguous():
        tracer.ledger.borrow(operations.nbytes(source.meta))
    return _counted(tracer, func, args, (laid,))[0]


def _safe_softmax(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """Math attention's: beside its output, where its input is minus infinity, in bytes of bool."""
    source = args[0]
    if not isinstance(source, Traced) or source.device.type != "cuda":
        return NotImplemented
    dtype = args[2] if len(args) > 2 and args[2] is not None else kwargs.get("dtype") or source.dtype
    out = tracer.run(aten._softmax.default, (source, args[1], False), {})
    tracer.ledger.borrow(source.numel())
    return out if dtype == source.dtype else tracer.run(aten._to_copy.default, (out,), {"dtype": dtype})


def _item(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not isinstance(tensor, Traced):
        return NotImplemented
    if tensor.value is None:
        tracer.ledger.assume(f"a value was taken for one ({tensor.dtype})")
        return True if tensor.dtype == torch.bool else 1.0 if tensor.dtype.is_floating_point else 1
    return tensor.value.item()


def _nonzero(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not isinstance(tensor, Traced):
        return NotImplemented
    if tensor.value is None:
        tracer.ledger.assume("a mask was taken for true everywhere")
        return tracer.made(
            torch.empty((tensor.numel(), tensor.dim()), dtype=torch.long, device=META), tensor.device
        )
    return _held(tracer, torch.nonzero(tensor.value), tensor.device)


def _index(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """With a mask among its indices: by the mask's positions."""
    indices = args[1]
    if not any(map(_is_mask, indices)) or not any(
        isinstance(a, Traced) for a in (args[0], *indices, *args[2:])
    ):
        return NotImplemented
    places: list[Any] = []
    for index in indices:
        if not _is_mask(index):
            places.append(index)
        elif isinstance(index, Traced):
            found = _nonzero(tracer, func, (index,), {})
            places.extend(tracer.run(aten.select.int, (found, 1, d), {}) for d in range(found.shape[1]))
        else:
            places.extend(torch.nonzero(index).unbind(1))
    return tracer.run(func, (args[0], places, *args[2:]), kwargs)


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def _masked(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    if not any(isinstance(a, Traced) for a in args):
        return NotImplemented
    shape = list(torch.broadcast_shapes(args[0].shape, args[1].shape))  # type: ignore[no-untyped-call]
    source, mask = (tracer.run(aten.expand.default, (a, shape), {}) for a in args[:2])
    return tracer.run(aten.index.Tensor, (source, [mask]), {})


def _equal(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    if not any(isinstance(a, Traced) for a in args):
        return NotImplemented
    a, b = (t.value if isinstance(t, Traced) else t for t in args[:2])
    if a is None or b is None:
        tracer.ledger.assume("tensors of one shape were taken for equal")
        return args[0].shape == args[1].shape
    return torch.equal(a, b)


def _repeat(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    repeats = args[0]
    if not isinstance(repeats, Traced):
        return NotImplemented
    if repeats.value is not None:
        return _held(tracer, torch.repeat_interleave(repeats.value), repeats.device)
    length = kwargs.get("output_size") or repeats.numel()
    return tracer.made(torch.empty((length,), dtype=torch.long, device=META), repeats.device)


def _unique(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not isinstance(tensor, Traced):
        return NotImplemented
    return tuple(_held(tracer, v, tensor.device) for v in func(known(tensor), *args[1:], **kwargs))


def _copy(tracer: Tracer, func: Any, args: Any, kwargs: Any) -> Any:
    """``copy_``: values move where both are small."""
    target, source = args[:2]
    if not isinstance(target, Traced):
        if not isinstance(source, Traced):
            return NotImplemented
        if source.numel() <= KEEP:
            target.copy_(known(source))
        return target
    value = source.value if isinstance(source, Traced) else _small(source)
    if target.value is not None and value is not None:
        target.value.copy_(value)
    else:
        target.value = None
    if target.device.type == "cuda":
        inputs = operations.shapes((source,))
        operations.count(tracer.ledger, func, inputs, (), [target.meta])
    return target


def _small(tensor: torch.Tensor) -> torch.Tensor | None:
    return tensor if tensor.device.type == "cpu" and tensor.numel() <= KEEP else None


def _held(tracer: Tracer, value: torch.Tensor, device: torch.device) -> Traced:
    return tracer.made(torch.empty(value.shape, dtype=value.dtype, device=META), device, value)


UPSAMPLINGS = (
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.default,
    aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact2d.default,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact3d.default,
    aten._upsample_nearest_exact3d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_trilinear3d.default,
    aten.upsample_trilinear3d.vec,
    aten.upsample_bicubic2d.default,
    aten.upsample_bicubic2d.vec,
)

RULES: dict[Any, Any] = {
    aten.convolution.default: _convolve,
    aten.native_group_norm.default: _normed,
    aten.native_layer_norm.default: _layer_normed,
    **dict.fromkeys(UPSAMPLINGS, _upsampled),
    aten._safe_softmax.default: _safe_softmax,
    aten._local_scalar_dense.default: _item,
    aten.nonzero.default: _nonzero,
    aten.index.Tensor: _index,
    aten.index_put_.default: _index,
    aten.index_put.default: _index,
    aten.masked_select.default: _masked,
    aten.equal.default: _equal,
    aten.repeat_interleave.Tensor: _repeat,
    aten._unique2.default: _unique,
    aten.unique_consecutive.default: _unique,
    aten.unique_dim.default: _unique,
    aten.copy_.default: _copy,
}
"""By operation; a rule says NotImplemented where it has nothing to add."""
