"""Device memory of exactly the size that is asked for, at addresses that stay.

torch's caching allocator keeps freed blocks and cuts them up for others: after one component left and a
larger one came, the card holds both. And ``cuMemFree`` waits for all that the device does, copies of the next
component too. So a piece is a range of addresses, reserved once, with memory under it while it is in use, by
CUDA's virtual memory management (driver API, section 6.14). Memory that one component leaves goes under the
next one's addresses, nobody waits for copies, and tensors over a range are the same ones each time.

On an H100, beside a copy of 6 GiB that takes 118 ms: 10 GiB cost 1.3 ms to take and 7.5 ms to give back,
``cuMemFree`` 122 ms. Of 18 GiB in chunks of CHUNK, unmapping takes 2.4 ms and their release 8.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

GRANULE = 2 << 20
"""Bytes: the driver hands out memory in pages of this size, whatever is asked for."""

CHUNK = 128 << 20
"""Bytes that go from one range to another as one. Larger ones are cheaper to move (64 MiB: 0.05 ms each)."""

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_ON_DEVICE = 1  # CU_MEM_ALLOCATION_TYPE_PINNED and CU_MEM_LOCATION_TYPE_DEVICE
_READ_AND_WRITE = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE
_SUPPORTED = 102  # CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED


@dataclass(frozen=True, slots=True)
class Chunk:
    """Memory of the device, by its handle."""

    handle: int
    nbytes: int


class Pool:
    """Memory for the ranges of one device: ``nbytes`` from the driver, under one of them or spare."""

    def __init__(self, device: torch.device) -> None:
        """Takes nothing yet."""
        self.nbytes = 0
        self._device = device
        self._spare: list[Chunk] = []

    def lacks(self, nbytes: int) -> int:
        """Bytes that the driver would be asked for, to have ``nbytes``."""
        spare = Counter(chunk.nbytes for chunk in self._spare)
        return sum((Counter(_cut(nbytes)) - spare).elements())

    @property
    def spare(self) -> int:
        """Bytes that lie under no range."""
        return sum(chunk.nbytes for chunk in self._spare)

    def take(self, nbytes: int) -> list[Chunk]:
        """Chunks of ``nbytes`` together, spare ones first. Raises torch's OutOfMemoryError: none is taken."""
        made: list[Chunk] = []
        try:
            for size in _cut(nbytes):
                found = next((chunk for chunk in self._spare if chunk.nbytes == size), None)
                if found is not None:
                    self._spare.remove(found)
                made.append(found or self._create(size))
        except BaseException:
            self._spare += made
            raise
        return made

    def give(self, chunks: Iterable[Chunk]) -> None:
        """They are spare from now on."""
        self._spare += chunks

    def drain(self, nbytes: int | None = None, keep: int = 0) -> int:
        """What is spare goes to the driver: all but chunks for ``keep`` bytes, or as many as are ``nbytes``.
        Returns their bytes."""
        wanted, gone = Counter(_cut(keep)), 0
        if not self._spare:
            return gone
        with torch.cuda.device(self._device):
            for chunk in self._spare[::-1]:
                if nbytes is not None and gone >= nbytes:
                    break
                if wanted[chunk.nbytes]:
                    wanted[chunk.nbytes] -= 1
                    continue
                _call("cuMemRelease", ctypes.c_uint64(chunk.handle))
                self._spare.remove(chunk)
                self.nbytes -= chunk.nbytes
                gone += chunk.nbytes
        return gone

    def _create(self, nbytes: int) -> Chunk:
        with torch.cuda.device(self._device):
            handle = _created(nbytes, self._device)
            if handle is None:
                self.drain()  # of other sizes
                torch.cuda.empty_cache()
                handle = _created(nbytes, self._device)
        if handle is None:
            free, total = torch.cuda.mem_get_info(self._device)
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {nbytes / 2**30:.2f} GiB for weights. {self._device} "
                f"has {total / 2**30:.2f} GiB, of which {free / 2**30:.2f} GiB is free"
            )
        self.nbytes += nbytes
        return Chunk(handle, nbytes)

    def __del__(self) -> None:
        try:
            self.drain()
        except Exception:  # at exit the driver may be gone before we are
            return


class Range:
    """Addresses of ``nbytes``, a multiple of GRANULE, until nobody holds it. ``bytes``: the tensor over them,
    to be used while there is memory under it, which torch reads by the interface of CUDA array libraries."""

    def __init__(self, nbytes: int, device: torch.device) -> None:
        """Without memory."""
        self.nbytes = nbytes
        self._device = device
        self._bytes: torch.Tensor | None = None
        self._chunks: list[Chunk] = []
        address = ctypes.c_uint64()
        with torch.cuda.device(device):
            none = ctypes.c_uint64(0)
            _call("cuMemAddressReserve", ctypes.byref(address), _size(nbytes), _size(0), none, none)
        self.address = int(address.value)

    @property
    def bytes(self) -> torch.Tensor:
        """Flat uint8."""
        if self._bytes is None:  # torch asks the driver whose address it is, which needs memory there
            self._bytes = torch.as_tensor(_Array(self.address, self.nbytes), device=self._device)
        return self._bytes

    def lay(self, chunks: list[Chunk]) -> None:
        """``chunks``, of ``nbytes`` together, lie under it."""
        self._chunks = chunks
        with torch.cuda.device(self._device):
            at, none = self.address, ctypes.c_uint64(0)
            for chunk in chunks:
                handle = ctypes.c_uint64(chunk.handle)
                _call("cuMemMap", ctypes.c_uint64(at), _size(chunk.nbytes), _size(0), handle, none)
                at += chunk.nbytes
            access = _Access(_Location(_ON_DEVICE, _index(self._device)), _READ_AND_WRITE)
            start = ctypes.c_uint64(self.address)
            _call("cuMemSetAccess", start, _size(self.nbytes), ctypes.byref(access), _size(1))

    def lift(self) -> list[Chunk]:
        """What lay under it. Nothing of the device may be using it any more: the driver does not wait."""
        chunks, self._chunks = self._chunks, []
        if chunks:
            with torch.cuda.device(self._device):
                _call("cuMemUnmap", ctypes.c_uint64(self.address), _size(self.nbytes))
        return chunks

    def __del__(self) -> None:
        try:
            for chunk in self.lift():
                _call("cuMemRelease", ctypes.c_uint64(chunk.handle))
            _call("cuMemAddressFree", ctypes.c_uint64(self.address), _size(self.nbytes))
        except Exception:  # at exit, as above
            return


def available(device: torch.device) -> bool:
    """Whether the driver's own calls can be reached, and the card has these (not ROCm, which has others)."""
    if device.type != "cuda" or torch.version.cuda is None or _driver() is None:
        return False
    found = ctypes.c_int()
    with torch.cuda.device(device):
        torch.cuda.current_stream()  # the driver is ready once torch has used it
        failed = _driver().cuDeviceGetAttribute(ctypes.byref(found), _SUPPORTED, _index(device))
    return bool(found.value) and not failed


def rounded(nbytes: int) -> int:
    """As the driver hands it out."""
    return -(-nbytes // GRANULE) * GRANULE


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Properties(ctypes.Structure):
    """``CUmemAllocationProp``, with its flags (compression, RDMA, usage) as bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


class _Array:
    """Not the range itself: the tensor would hold it, and it the tensor."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


_size = ctypes.c_size_t


def _cut(nbytes: int) -> list[int]:
    """The sizes of chunks for ``nbytes``."""
    rest = nbytes % CHUNK
    return [CHUNK] * (nbytes // CHUNK) + ([rest] if rest else [])


def _index(device: torch.device) -> int:
    return device.index or 0


def _created(nbytes: int, device: torch.device) -> int | None:
    """A handle; None where there is no memory left."""
    handle = ctypes.c_uint64()
    asked = _Properties(type=_ON_DEVICE, location=_Location(_ON_DEVICE, _index(device)))
    given = ctypes.byref(handle), _size(nbytes), ctypes.byref(asked), ctypes.c_uint64(0)
    result = _driver().cuMemCreate(*given)
    if result not in (0, _OUT_OF_MEMORY):
        raise RuntimeError(f"cuMemCreate failed with error {result}")
    return None if result else int(handle.value)


def _call(name: str, *arguments: Any) -> None:
    if result := getattr(_driver(), name)(*arguments):
        raise RuntimeError(f"{name} failed with error {result}")


@cache
def _driver() -> Any:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
