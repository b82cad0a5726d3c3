"""Tensors that say they are on ``sim:0`` and keep their bytes in a CPU tensor.

The wrapper carries sizes, strides and dtype for torch's own bookkeeping; ``elem`` has the bytes and
shares its storage with the ``elem`` of every view; ``block`` is that storage's entry in the books;
``generation`` says how many operations a view is away from the tensor that was made there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from planner.virtual.memory import Block

BACKEND = "sim"

Kernel = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class SimTensor(torch.Tensor):
    """A tensor on the virtual accelerator."""

    elem: torch.Tensor
    block: Block
    generation: int

    # Functions of torch.* see an ordinary tensor; everything is caught below, at dispatch.
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    # How an operation is carried out; planner.virtual.backend sets it to planner.virtual.ops.run.
    kernel: ClassVar[Kernel]

    @staticmethod
    def __new__(cls: type[SimTensor], elem: torch.Tensor, block: Block, generation: int = 0) -> SimTensor:
        """A wrapper over ``elem``, whose storage ``block`` stands for."""
        self: SimTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.shape,
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=sim_device(),
        )
        self.lie(elem, block, generation)
        return self

    def lie(self, elem: torch.Tensor, block: Block, generation: int) -> None:
        """Over the bytes of ``elem`` from now on."""
        self.elem, self.block, self.generation = elem, block, generation
        if block.owner is not None:
            block.owner.hold(self)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub leaves out the class method
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return cls.kernel(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped above
        return f"{self.elem!r}".removesuffix(")") + f", device='{self.device}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> SimTensor:
        if id(self) in memo:
            found: SimTensor = memo[id(self)]
            return found
        with torch.no_grad():
            twin: Any = self.detach().clone(memory_format=torch.preserve_format)
        if getattr(self, "_is_param", False):
            twin = torch.nn.Parameter(twin, requires_grad=self.requires_grad)
        else:
            twin.requires_grad_(self.requires_grad)
        memo[id(self)] = twin
        copied: SimTensor = twin
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as its bytes, and back on the device when loaded, as a CUDA tensor is."""
        return _restore, (self.detach().cpu(), self.requires_grad, getattr(self, "_is_param", False))

    def tolist(self) -> Any:
        """As Tensor.tolist; torch's own looks at the wrapper's storage, which is not there."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """As Tensor.numpy of a CUDA tensor: TypeError, or with ``force`` a copy."""
        if not force:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. "
                "Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self.cpu().numpy(force=True)

    def __format__(self, spec: str) -> str:
        """As Tensor.__format__, which asks for its own class: a number's where it is one."""
        if self.dim() == 0 and not getattr(self, "_is_param", False):
            return format(self.item(), spec)
        return object.__format__(self, spec)


def wrap(elem: torch.Tensor, block: Block | None = None, generation: int = 0) -> SimTensor:
    """``elem`` on the device, in a block of its own unless it is a view into one."""
    if elem.is_conj() or elem.is_neg():
        # the wrapper cannot carry torch's lazy bits: the values are written out
        elem, block = elem.resolve_conj().resolve_neg(), None
    return SimTensor(elem, Block(elem.untyped_storage().nbytes()) if block is None else block, generation)


def sync(tensor: SimTensor) -> None:
    """Give the wrapper the sizes and strides that an in-place operation left on ``elem``."""
    elem = tensor.elem
    if (
        elem.shape != tensor.shape
        or elem.stride() != tensor.stride()
        or elem.storage_offset() != tensor.storage_offset()
    ):
        torch._C.TensorBase.data.__set__(tensor, SimTensor(elem, tensor.block))  # type: ignore[attr-defined]
        tensor.block.resize(elem.untyped_storage().nbytes())


_device: torch.device | None = None


def sim_device() -> torch.device:
    """``sim:0``; torch knows the name once the backend is installed."""
    global _device
    if _device is None:
        _device = torch.device(BACKEND, 0)
    return _device


def _restore(data: torch.Tensor, requires_grad: bool, is_param: bool) -> torch.Tensor:
    tensor = data.to(sim_device())
    return torch.nn.Parameter(tensor, requires_grad) if is_param else tensor.requires_grad_(requires_grad)
