"""A device guard for "cuda:0" on a torch that was built without CUDA.

Indexing in Python asks the guard of its tensor's device for a context. A build with CUDA makes one for
machines without a card by itself; one without has an empty place in its table, where meta's guard (it does
nothing) is put for as long as the process lives.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

CUDA, META = 1, 14
"""``c10::DeviceType``, fixed by torch's serialization format."""
PLACES = 20
TABLE = "_ZN3c104impl26device_guard_impl_registryE"
LIBRARIES = ("libc10.so", "libc10.dylib", "c10.dll")


class NoGuardError(RuntimeError):
    """This torch has no table of guards where one was expected."""


@cache
def ensure_guard() -> None:
    """Indexing tensors that say they are on "cuda:0" works afterwards. Raises NoGuardError."""
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        torch._C._ensureCUDADeviceGuardSet()
        return
    folder = Path(torch.__path__[0]) / "lib"
    found = next((folder / name for name in LIBRARIES if (folder / name).exists()), None)
    if found is None:
        raise NoGuardError(f"no c10 library in {folder}")
    try:
        table = (ctypes.c_void_p * PLACES).in_dll(ctypes.CDLL(str(found)), TABLE)
    except ValueError as error:
        raise NoGuardError(f"{found.name} exports no table of device guards") from error
    if table[META] is None:
        raise NoGuardError("meta has no device guard")
    if table[CUDA] is None:
        table[CUDA] = table[META]
