"""The mode under which a use runs: operations on meta tensors, their allocations and work in the ledger."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.cards.kernels import Kernels
from planner.tracing import operations
from planner.tracing.ledger import Ledger
from planner.tracing.memo import Memo
from planner.tracing.rules import RULES
from planner.tracing.tensor import CPU, CUDA, KEEP, META, Traced, emptied
from planner.tracing.tensor import known as values_of

RANDOM = frozenset({"aten::randn", "aten::rand", "aten::randint", "aten::randperm", "aten::normal"})


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types no subclassing
    """Runs operations on tensors without data. ``ledger``: of the use that is traced."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = kernels
        self.ledger = Ledger()
        self._memo = Memo()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Of any operation while a use is traced."""
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``func`` with what is known of its values."""
        if (rule := RULES.get(func)) is not None:
            done = rule(self, func, args, kwargs)
            if done is not NotImplemented:
                return done
        traced: list[Traced] = []
        bare = tuple(_bare(a, traced) for a in args)
        more = {key: _bare(a, traced) for key, a in kwargs.items()}
        device = _device(kwargs.get("device"))
        if not traced and (device is None or device.type != "cuda"):
            return func(*args, **kwargs)
        known = all(t.value is not None for t in traced)
        if device is not None:
            more["device"] = META
            if device.type == "cpu" and traced and known:
                return func(*valued(args), **_on_cpu(kwargs))
        if more.get("pin_memory"):
            more["pin_memory"] = False
        if more.get("generator") is not None:
            more["generator"] = None
        bare = tuple(map(_meta, bare))
        try:
            out = self._memo.run(func, bare, {key: _meta(a) for key, a in more.items()})
        except NotImplementedError:  # no meta kernel (bincount): by its values
            if not traced or any(t.numel() > KEEP for t in traced):
                raise
            return self._by_values(func, args, kwargs, known)
        where = device or (CUDA if any(t.device.type == "cuda" for t in traced) else CPU)
        return self._wrapped(func, args, kwargs, bare, out, where, traced, known)

    def _by_values(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], known: bool) -> Any:
        if not known:
            self.ledger.assume(f"values of the input of {func._schema.name} were taken for ones")
        out = func(*valued(args, ones=True), **_on_cpu(kwargs))
        many = out if isinstance(out, (list, tuple)) else (out,)
        made = [self.made(torch.empty_like(v, device=META), CUDA, v) for v in many]
        return made[0] if many is not out else tuple(made)

    def made(self, meta: torch.Tensor, device: torch.device, value: torch.Tensor | None = None) -> Traced:
        """A new tensor, allocated if it is on the GPU."""
        if device.type == "cuda":
            self.ledger.see(meta)
        return Traced(meta, device, value)

    def given(self, tensor: torch.Tensor, device: torch.device = CUDA) -> Traced:
        """One that was there before the use: not counted."""
        if isinstance(tensor, Traced) and tensor.device == device:
            self.ledger.know(tensor.meta)
            return tensor
        if isinstance(tensor, Traced):
            meta, value = torch.empty_like(tensor.meta), tensor.value
        else:
            meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
            small = tensor.device.type == "cpu" and tensor.numel() <= KEEP
            value = tensor.detach().clone() if small else None
        if device.type == "cuda":
            self.ledger.know(meta)
        return Traced(meta, device, value)

    def _wrapped(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bare: tuple[Any, ...],
        out: Any,
        where: torch.device,
        traced: list[Traced],
        known: bool,
    ) -> Any:
        many = isinstance(out, (list, tuple))
        writes = func._schema.is_mutable
        results = [self._result(one, where, traced if writes else ()) for one in (out if many else (out,))]
        tensors = [r for r in results if isinstance(r, Traced)]
        if where.type == "cuda" and self.ledger.open:
            operations.count(self.ledger, func, [t.meta for t in traced], bare, [t.meta for t in tensors])
        self._values(func, args, kwargs, tensors, traced, known)
        if many:
            return type(out)(results) if type(out) in (list, tuple) else tuple(results)
        return results[0]

    def _result(self, one: Any, where: torch.device, written: Any) -> Any:
        if not isinstance(one, torch.Tensor):
            return one
        same = next((t for t in written if t.meta is one), None)
        return same if same is not None else self.made(one, where)

    def _values(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Traced],
        traced: list[Traced],
        known: bool,
    ) -> None:
        """Small results of known values are known."""
        name = func._schema.name
        small = known and name not in operations.NOTHING and all(t.numel() <= KEEP for t in tensors)
        if small and tensors and (traced or name not in RANDOM):
            try:
                value = func(*valued(args), **_on_cpu(kwargs))
            except Exception as error:  # a value less; its shape is known
                self.ledger.assume(f"value of {name} not computed: {str(error)[:80]}")
            else:
                found = value if isinstance(value, (list, tuple)) else (value,)
                for tensor, one in zip(
                    tensors, (v for v in found if isinstance(v, torch.Tensor)), strict=False
                ):
                    tensor.value = one
                return
        if func._schema.is_mutable and traced:
            traced[0].value = None


def valued(args: Any, *, ones: bool = False) -> tuple[Any, ...]:
    """``args`` with values in place of tensors without data. ``ones``: where they are not known."""
    return tuple(_value(a, ones) for a in args)


def _value(a: Any, ones: bool = False) -> Any:
    if isinstance(a, Traced):
        return values_of(a) if ones else a.value
    if isinstance(a, torch.device):
        return CPU
    if isinstance(a, (list, tuple)):
        return type(a)([_value(x, ones) for x in a])
    return a


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    fixed = {"device": CPU, "generator": None}
    return {key: fixed[key] if key in fixed and a is not None else _value(a) for key, a in kwargs.items()}


def _bare(a: Any, traced: list[Traced]) -> Any:
    if isinstance(a, Traced):
        traced.append(a)
        return a.meta
    if isinstance(a, (list, tuple)):
        return type(a)([_bare(x, traced) for x in a])
    return a


def _meta(a: Any) -> Any:
    if isinstance(a, torch.Tensor):
        return emptied(a)
    if isinstance(a, (list, tuple)):
        return type(a)([_meta(x) for x in a])
    return a


def _device(said: Any) -> torch.device | None:
    """Meta's guard says its own name where a pipeline says "cuda" without a number."""
    if said is None:
        return None
    device = torch.device(said)
    return CUDA if device.type in ("meta", "cuda") else device
