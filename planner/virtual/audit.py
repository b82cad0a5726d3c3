"""An auditor of a pipeline call: were the weights there, were they right, and what came when.

It trusts nothing that a session says. Where weights are used is seen twice: at the forward of every
module (torch's global hooks) and at every operation (a dispatch mode); what they should be is taken
from the pipeline itself, before; what came and went is the device's ledger.

Not misses, because a card gets them right too:

- a zero-dimensional tensor on the host, which CUDA's kernels take
- a host tensor that is only viewed, cloned, cast or copied to the device (``.to``): no kernel meets
  it on the wrong device
- a buffer in an operation that is all on the host, as diffusers' own offload does it: Flux2's pipelines
  add to the statistics of their VAE before they send them to the device
- empty tensors
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from planner.virtual.compare import Event
from planner.virtual.device import Fault, SimDevice
from planner.virtual.ledger import Entry
from planner.virtual.own_work import in_own_work, own_work
from planner.virtual.piece import SimPiece
from planner.virtual.tensor import BACKEND, SimTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A use of weights that were not on the device. ``weight`` is the name inside the component."""

    component: str
    weight: str
    op: str

    def __str__(self) -> str:
        return f'"{self.component}.{self.weight}" was used on the host by {self.op}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """Bytes that were not the pipeline's. ``where`` is ``device`` or ``host``."""

    component: str
    weight: str
    where: str

    def __str__(self) -> str:
        return f'the bytes of "{self.component}.{self.weight}" on the {self.where} are not the pipeline\'s'


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``ok`` when nothing was missed, wrong or left behind. ``left`` maps a label to its bytes."""

    misses: tuple[Miss, ...]
    faults: tuple[Fault, ...]
    wrong: tuple[Wrong, ...]
    left: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.misses or self.faults or self.wrong or self.left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A weight as it was: the host's tensor by reference, or the bytes of one that was ``there`` on the
    device, and what its bytes hashed to."""

    tensor: torch.Tensor
    digest: bytes
    there: bool = False

    @property
    def on_host(self) -> bool:
        """Whether it lay in host memory."""
        return not self.there and self.tensor.device.type == "cpu"


Snapshot = Mapping[str, Mapping[str, Weight]]
"""Component -> name -> weight; parameters and buffers, tied ones under each name, a quantized one as what it
is made of."""


def snapshot(*pipelines: Any) -> Snapshot:
    """What the pipelines' weights are now; taken before a session is applied, it is the truth."""
    with own_work(), torch.no_grad():
        return {
            name: {path: _weight(tensor) for path, tensor in _tensors(module)}
            for name, module in _components(pipelines).items()
        }


class Audit:
    """What was seen during the call. Made by ``audit``."""

    def __init__(self, pipelines: tuple[Any, ...], device: SimDevice | None, before: Snapshot | None) -> None:
        self._device = device
        self._now = snapshot(*pipelines)
        self._truth = self._now if before is None else before
        self._owner: dict[int, tuple[str, str]] = {}
        self._modules = _components(pipelines)
        for component, module in self._modules.items():
            for path, child in module.named_modules():
                self._owner.setdefault(id(child), (component, path + "." if path else ""))
        self._host = {
            weight.tensor.untyped_storage()._cdata: (component, path)
            for component, weights in self._now.items()
            for path, weight in weights.items()
            if weight.on_host and weight.tensor.dim() and weight.tensor.numel()
        }
        self._buffers = {
            (component, path)
            for component, module in self._modules.items()
            for path, _ in module.named_buffers(remove_duplicate=False)
        }
        self._misses: dict[Miss, None] = {}
        self._wrong: dict[Wrong, None] = {}
        self._checked: set[tuple[object, ...]] = set()
        self._uses: list[tuple[int, str]] = []
        self._start = len(device.ledger) if device else 0
        self._before = dict(device.ledger.by_label) if device else {}
        self._stop: int | None = None
        self._faults = len(device.faults) if device else 0

    @property
    def misses(self) -> tuple[Miss, ...]:
        """Each once, in order."""
        return tuple(self._misses)

    @property
    def live_before(self) -> Mapping[str, int]:
        """Label -> bytes that lay on the device when the call began."""
        return self._before

    @property
    def peak(self) -> int:
        """The most bytes of weights live at once during the call."""
        return max((sum(live.values()) for live in self._states()), default=0)

    def peak_without(self, labels: Collection[str]) -> int:
        """The same, pieces of ``labels`` not counted."""
        return max(
            (sum(n for label, n in live.items() if label not in labels) for live in self._states()), default=0
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """``("load", component, bytes)``, ``("use", component)``, ``("free", component, bytes)`` in order.

        A use is the first touch of a component after another component's.
        """
        entries = self._entries()
        found: list[Event] = []
        uses = list(self._uses)
        for position, entry in enumerate(entries, self._start):
            while uses and uses[0][0] <= position:
                found.append(("use", uses.pop(0)[1]))
            found.append(("load" if entry.kind == "alloc" else "free", entry.label, entry.nbytes))
        found.extend(("use", component) for _, component in uses)
        return tuple(found)

    def verdict(self, *, stay: Collection[str] = ()) -> Verdict:
        """After the call. ``stay`` names the labels whose pieces may still be live."""
        live = self._device.ledger.by_label if self._device else {}
        return Verdict(
            misses=self.misses,
            faults=self._device.faults[self._faults :] if self._device else (),
            wrong=tuple(self._wrong),
            left={label: nbytes for label, nbytes in live.items() if label not in stay},
        )

    def before_forward(self, module: torch.nn.Module, _args: Any) -> None:
        """Look at a module's weights, unless a hook of its own has still to bring them."""
        if not _has_hooks(module):
            self._look(module)

    def after_forward(self, module: torch.nn.Module, _args: Any, _out: Any) -> None:
        """Look at the weights of a module that has hooks of its own."""
        if _has_hooks(module):
            self._look(module)

    def saw(self, func: Any, tensors: Iterable[torch.Tensor]) -> None:
        """An operation of the call itself."""
        if in_own_work():
            return
        tensors = tuple(tensors)
        mixed = any(isinstance(tensor, SimTensor) for tensor in tensors)
        for tensor in tensors:
            if isinstance(tensor, SimTensor) or tensor.device.type != "cpu" or not tensor.dim():
                continue
            found = self._host.get(tensor.untyped_storage()._cdata)
            if found is not None and not _harmless(func) and (mixed or found not in self._buffers):
                component, path = found
                self._misses[Miss(component=component, weight=path, op=str(func))] = None
                self._use(component)

    def finish(self) -> None:
        """The call is over: the host's weights must be what they were, and nothing bound to freed memory."""
        for component, module in self._modules.items():
            for path, tensor in _tensors(module):
                owner = tensor.block.owner if isinstance(tensor, SimTensor) else None
                if isinstance(owner, SimPiece) and owner.freed:
                    self._wrong[Wrong(component=component, weight=path, where="device")] = None
        self._modules = {}
        self._stop = len(self._device.ledger) if self._device else 0
        with own_work(), torch.no_grad():
            for component, weights in self._now.items():
                for path, weight in weights.items():
                    if weight.on_host and _digest(weight.tensor) != weight.digest:
                        self._wrong[Wrong(component=component, weight=path, where="host")] = None

    def _entries(self) -> tuple[Entry, ...]:
        entries = self._device.ledger.since(self._start) if self._device else ()
        return entries if self._stop is None else entries[: self._stop - self._start]

    def _states(self) -> Iterator[Mapping[str, int]]:
        """What was live at the start and after each entry; the same mapping each time."""
        live = Counter(self._before)
        yield live
        for entry in self._entries():
            live[entry.label] += entry.nbytes if entry.kind == "alloc" else -entry.nbytes
            yield live

    def _look(self, module: torch.nn.Module) -> None:
        owner = self._owner.get(id(module))
        if owner is None:
            return
        component, prefix = owner
        self._use(component)
        with own_work(), torch.no_grad():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                for path, part in _plain(prefix + name, tensor):
                    if part is not None and part.numel():
                        self._check(component, path, part, type(module).__name__)

    def _check(self, component: str, path: str, tensor: torch.Tensor, cls: str) -> None:
        if not isinstance(tensor, SimTensor):
            if tensor.dim() and tensor.device.type != BACKEND:
                self._misses[Miss(component=component, weight=path, op=f"the forward of {cls}")] = None
            return
        key = (component, path, tensor.block.serial, tensor.elem.storage_offset())
        piece = tensor.block.owner
        if key in self._checked or not isinstance(piece, SimPiece) or piece.awaits(tensor.elem):
            return  # freed pieces and bytes on their way are the device's to judge, at the operation
        self._checked.add(key)
        weight = self._truth.get(component, {}).get(path)
        if weight is not None and not _same(tensor.elem, weight):
            self._wrong[Wrong(component=component, weight=path, where="device")] = None

    def _use(self, component: str) -> None:
        if not self._uses or self._uses[-1][1] != component:
            self._uses.append((len(self._device.ledger) if self._device else 0, component))


@contextmanager
def audit(
    pipe: Any,
    device: SimDevice | None,
    *,
    extra_pipelines: Collection[Any] = (),
    before: Snapshot | None = None,
) -> Iterator[Audit]:
    """Watch a call of ``pipe`` in this thread.

    ``before`` is a ``snapshot`` taken before the session was applied; without it the bytes at entry
    count as right. ``extra_pipelines`` are others whose components the call may use. ``device`` is
    None for a pipeline that stands on ``sim`` without a session.
    """
    seen = Audit((pipe, *extra_pipelines), device, before)
    hooks = (
        register_module_forward_pre_hook(seen.before_forward),
        register_module_forward_hook(seen.after_forward),
    )
    try:
        with _Mode(seen):
            yield seen
    finally:
        for hook in hooks:
            hook.remove()
        seen.finish()


_DispatchMode: Any = TorchDispatchMode  # untyped


class _Mode(_DispatchMode):  # type: ignore[misc]
    def __init__(self, seen: Audit) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._seen.saw(func, _flat((*args, *kwargs.values())))
        return func(*args, **kwargs)


_READERS_THAT_COPY = {"_to_copy", "copy_", "clone", "_local_scalar_dense", "_copy_from"}
_NON_READERS = {"empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "set_"}


def _harmless(func: Any) -> bool:
    name = func._schema.name.partition("::")[2]
    if name in _READERS_THAT_COPY or name in _NON_READERS or name.endswith(("_like", "new_full", "new_ones")):
        return True
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _flat(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _flat(value)


def _has_hooks(module: torch.nn.Module) -> bool:
    # accelerate puts its hook into `forward` itself
    return bool(module._forward_pre_hooks) or "forward" in module.__dict__


def _components(pipelines: Iterable[Any]) -> dict[str, torch.nn.Module]:
    found: dict[str, torch.nn.Module] = {}
    for pipeline in pipelines:
        for name, component in pipeline.components.items():
            if isinstance(component, torch.nn.Module) and component not in found.values():
                # two pipelines may each have a component of this name
                key = name if name not in found else f"{type(pipeline).__name__}.{name}"
                found[key] = component
    return found


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for found in (module.named_parameters, module.named_buffers):
        for path, tensor in found(remove_duplicate=False):
            yield from _plain(path, tensor)


def _plain(path: str, tensor: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A quantized weight as the plain tensors that it is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield path, tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain(f"{path}.{name}", getattr(tensor, name))


def _weight(tensor: torch.Tensor) -> Weight:
    digest = b"" if tensor.device.type == "meta" else _digest(tensor)
    # Of one on the device the bytes, not a tensor over them: that would keep it there.
    if isinstance(tensor, SimTensor):
        return Weight(tensor=tensor.elem, digest=digest, there=True)
    return Weight(tensor=tensor.detach(), digest=digest)


def _digest(tensor: torch.Tensor) -> bytes:
    elem = tensor.elem if isinstance(tensor, SimTensor) else tensor
    flat = elem.detach().reshape(-1).contiguous()
    if flat.is_quantized or flat.layout is not torch.strided:
        return b""
    return blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).digest()


def _same(elem: torch.Tensor, weight: Weight) -> bool:
    if not weight.digest:
        return True
    if elem.dtype == weight.tensor.dtype:
        return _digest(elem) == weight.digest
    # the pipeline cast it (`vae.to(dtype=float32)`); the old tensor is still what it was cast from
    old = weight.tensor
    return _digest(elem) == _digest(old.to(elem.dtype))
