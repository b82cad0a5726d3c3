"""quanto's weights of four and two bits without its C++ kernel."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import torch


def in_python() -> None:
    """quanto compiles the kernel at its first use, half a minute in a fresh environment; this is its own
    formula where there is none."""
    if find_spec("optimum") is None or find_spec("optimum.quanto") is None:
        return
    from optimum.quanto.library import extensions  # noqa: F401 - registers it
    from optimum.quanto.library.extensions.extension import get_extension

    get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """``packed``: uint8 of ``8 / bits`` numbers each; the numbers, one to a uint8, along the first axis."""
    return torch.cat([(packed >> bits * at) & (2**bits - 1) for at in range(8 // bits)])
