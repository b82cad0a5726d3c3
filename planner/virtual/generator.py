"""Random numbers: ``torch.Generator("sim")`` and the default one.

A generator of the virtual card is a CPU generator that says so: the same seed gives the CPU's own
numbers. The default generator is the CPU's, draw for draw, so a run that names no generator is the
run on the CPU too.
"""

from __future__ import annotations

from typing import Any

import torch

from planner.virtual.tensor import BACKEND, sim_device

_Plain: Any = torch._C.Generator


class SimGenerator(_Plain):  # type: ignore[misc]
    """A generator whose ``device`` is ``sim:0``."""

    def __new__(cls) -> SimGenerator:
        """A CPU generator underneath."""
        made: SimGenerator = super().__new__(cls, "cpu")
        return made

    @property
    def device(self) -> torch.device:
        """``sim:0``."""
        return sim_device()

    def clone_state(self) -> SimGenerator:
        """A new generator in the same state."""
        twin = SimGenerator()
        twin.set_state(self.get_state())
        return twin

    def __reduce__(self) -> Any:
        return _restore, (self.get_state(),)


class _AnyGenerator(type(_Plain)):  # type: ignore[misc]
    def __call__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type == BACKEND:
            return type.__call__(SimGenerator)
        return _Plain(device)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Plain)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return issubclass(subclass, _Plain)


class Generator(metaclass=_AnyGenerator):
    """In the place of ``torch.Generator``: torch has no hook by which Python could make one.

    Every other device's generators are made, and recognised by isinstance, as before.
    """


def install() -> None:
    """Put the class in torch's place; C++ looks at the type of the object, which is its own."""
    torch.Generator = Generator  # type: ignore[misc,assignment]


def _restore(state: torch.Tensor) -> SimGenerator:
    generator = SimGenerator()
    generator.set_state(state)
    return generator
