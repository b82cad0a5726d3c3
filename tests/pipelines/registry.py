"""Real pipeline classes by name, with tiny random weights: ``build(name)`` and ``arguments(name)``.

A family is a shelf of component factories; a class takes from its family's shelf what its constructor
asks for. The same name gives the same weights, byte for byte.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import diffusers
import pytest
import torch

diffusers.logging.set_verbosity_error()
torch.set_num_threads(1)  # the tensors are tiny, and the tests run beside each other
warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")

Shelf = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """``shelf`` by component name, ``call`` makes the call's arguments, ``more`` are constructor values."""

    shelf: Shelf
    call: Callable[[], dict[str, Any]]
    more: Mapping[str, Any] = field(default_factory=dict)
    outputs: Callable[[Any], Any] = lambda result: result[0]
    cls: str = ""


CASES: dict[str, Case] = {}
"""Run by every test of pipelines."""

FIRST: list[str] = []
"""The first class of each family in ``CASES``: the others have the same components, or nearly."""

WIDE: dict[str, Case] = {}
"""More classes, for the tests that want as many as there are."""


def family(
    shelf: Shelf, classes: Mapping[str, tuple[Mapping[str, Any], ...]], into: dict[str, Case] = CASES
) -> None:
    """Adds classes: name -> (call arguments, other factories, constructor values).

    A call argument may be a function without arguments: it is made anew for each call. ``Name:note``
    is the class ``Name`` once more, in another setting.
    """
    if into is CASES:
        FIRST.append(next(iter(classes)))
    for name, (call, *rest) in classes.items():
        others = rest[0] if rest else {}
        more = rest[1] if len(rest) > 1 else {}
        into[name] = Case(
            shelf={**shelf, **others}, call=_caller(call), more=more, cls=name.partition(":")[0]
        )


def one_a_family(more: Iterable[str] = (), *, but: Container[str] = ()) -> list[Any]:
    """Parameters for a test: the classes in ``FIRST`` and ``more``, the others of ``CASES`` marked as wide;
    none of ``but``."""
    usual = {*FIRST, *more}
    names = [name for name in CASES if name not in but]
    return [name if name in usual else pytest.param(name, marks=pytest.mark.wide) for name in names]


def build(name: str) -> Any:
    """The pipeline on the CPU, in eval mode."""
    case = _case(name)
    cls = getattr(diffusers, case.cls)
    parameters = inspect.signature(cls.__init__).parameters
    made: dict[str, Any] = {}
    for key, parameter in parameters.items():
        if key == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if key in case.more:
            made[key] = case.more[key]
        elif key in case.shelf:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(crc32(key.encode()))
                try:
                    made[key] = case.shelf[key]()
                except ImportError as error:  # StableAudio's scheduler
                    pytest.skip(f"a package of its own is missing: {error}")
        elif parameter.default is parameter.empty or "optional" in str(parameter.annotation).lower():
            made[key] = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = cls(**made)  # some make a part of their own (AnimateDiff's motion UNet for SDXL)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def arguments(name: str) -> dict[str, Any]:
    """Fresh arguments for a call: the same seed, new objects."""
    return _case(name).call()


def run(pipe: Any, name: str, **more: Any) -> tuple[torch.Tensor, ...]:
    """Calls the pipeline; every tensor of what it returns, on the CPU."""
    torch.manual_seed(7)  # some pipelines draw from the default generator
    with torch.no_grad():
        return tuple(_tensors(pipe(**(arguments(name) | more))))


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    """Bit for bit, NaNs too; nothing at all is not the same as nothing."""
    return (
        len(a) == len(b) > 0
        and all(x.dtype == y.dtype and x.shape == y.shape for x, y in zip(a, b, strict=True))
        and all(_bytes(x) == _bytes(y) for x, y in zip(a, b, strict=True))
    )


def close(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    """But for what rounding makes of the same operations on other kernels."""
    return len(a) == len(b) > 0 and all(
        x.shape == y.shape and torch.allclose(x.float(), y.float(), rtol=1e-3, atol=1e-3, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _case(name: str) -> Case:
    return CASES[name] if name in CASES else WIDE[name]


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu()]
    if hasattr(value, "__array__"):
        import numpy

        return [torch.from_numpy(numpy.array(value))]
    if hasattr(value, "to_tuple"):
        value = value.to_tuple()
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _caller(call: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        made = {key: value() if callable(value) else value for key, value in call.items()}
        made.setdefault("generator", torch.Generator().manual_seed(0))
        if made["generator"] is None:
            del made["generator"]  # a class that takes none
        return made

    return make
