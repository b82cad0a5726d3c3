"""Device memory of exactly the size that is asked for.

torch's caching allocator keeps freed blocks and cuts them up for others: after one component left and a
larger one came, the card holds both. Weights come and go whole, so they are taken from the driver and
given back to it (24 GiB cost 3 ms to take and 21 ms to give back on an H100).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


class Raw:
    """``nbytes`` of CUDA memory from the driver, until ``free``. torch reads it through the interface that
    CUDA array libraries share."""

    def __init__(self, nbytes: int, device: torch.device) -> None:
        """Raises torch's OutOfMemoryError."""
        self._device = device
        with torch.cuda.device(device):
            self._address = _take(nbytes)
            if self._address is None:
                torch.cuda.empty_cache()
                self._address = _take(nbytes)
        if self._address is None:
            free, total = torch.cuda.mem_get_info(device)
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {nbytes / 2**30:.2f} GiB for weights. {device} has "
                f"{total / 2**30:.2f} GiB, of which {free / 2**30:.2f} GiB is free"
            )
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (self._address, False),
            "version": 3,
        }

    def free(self) -> None:
        """The driver waits for what still runs. Nothing over the memory may be used again."""
        address, self._address = self._address, None
        if address is not None:
            with torch.cuda.device(self._device):
                _driver().cuMemFree_v2(ctypes.c_uint64(address))

    def __del__(self) -> None:
        self.free()


def available() -> bool:
    """Whether the driver's own calls can be reached (CUDA; not ROCm, which has others)."""
    return torch.version.cuda is not None and _driver() is not None


@cache
def _driver() -> Any:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _take(nbytes: int) -> int | None:
    address = ctypes.c_uint64()
    result = _driver().cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(nbytes))
    if result == _OUT_OF_MEMORY:
        return None
    if result:
        raise RuntimeError(f"cuMemAlloc failed with error {result}")
    return address.value
