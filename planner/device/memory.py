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


@dataclass(slots=True, eq=False)
class Chunk:
    """Memory of the device. ``handle``: 0 while the driver has not given it, or has it back; ``under``: the
    address of the range that it lies under, 0 for none."""

    nbytes: int
    handle: ctypes.c_uint64
    under: int = 0


class Pool:
    """The memory of one device's ranges.

    Invariants: a chunk that the driver gave is in ``_chunks`` until the driver has it back, so that nothing
    is lost wherever a caller is interrupted; figures are sums over it and never counted beside it."""

    def __init__(self, device: torch.device) -> None:
        """Takes nothing yet."""
        self._device = device
        self._chunks: list[Chunk] = []

    @property
    def nbytes(self) -> int:
        """From the driver, under a range or spare."""
        return sum(chunk.nbytes for chunk in self._chunks if chunk.handle.value)

    def lacks(self, nbytes: int) -> int:
        """Bytes that the driver would be asked for, to have ``nbytes``."""
        spare = Counter(chunk.nbytes for chunk in self._free())
        return sum((Counter(_cut(nbytes)) - spare).elements())

    def take(self, address: int, nbytes: int) -> list[Chunk]:
        """Chunks of ``nbytes`` together for the range at ``address``, spare ones first. Raises torch's
        OutOfMemoryError: none is taken."""
        made: list[Chunk] = []
        try:
            for size in _cut(nbytes):
                spare = (chunk for chunk in self._free() if chunk.nbytes == size)
                made.append(next(spare, None) or self._create(size))
                made[-1].under = address
        except BaseException:
            self.give(address)
            raise
        return made

    def under(self, address: int) -> list[Chunk]:
        """What lies under a range, or was taken for it."""
        return [chunk for chunk in self._chunks if chunk.under == address]

    def give(self, address: int) -> None:
        """What was under the range is spare from now on."""
        for chunk in self.under(address):
            chunk.under = 0

    def drain(self, nbytes: int | None = None, keep: int = 0) -> int:
        """What is spare goes to the driver: all but chunks for ``keep`` bytes, or as many as are ``nbytes``.
        Returns their bytes."""
        wanted, gone = Counter(_cut(keep)), 0
        spare = self._free()
        if not spare:
            return gone
        with torch.cuda.device(self._device):
            for chunk in spare[::-1]:
                if nbytes is not None and gone >= nbytes:
                    break
                if wanted[chunk.nbytes]:
                    wanted[chunk.nbytes] -= 1
                    continue
                _call("cuMemRelease", ctypes.c_uint64(chunk.handle.value))
                chunk.handle.value = 0
                self._chunks.remove(chunk)
                gone += chunk.nbytes
        return gone

    def _free(self) -> list[Chunk]:
        return [chunk for chunk in self._chunks if not chunk.under and chunk.handle.value]

    def _create(self, nbytes: int) -> Chunk:
        chunk = Chunk(nbytes, ctypes.c_uint64(0))
        self._chunks.append(chunk)  # before it has memory: the driver writes its handle there
        with torch.cuda.device(self._device):
            if not _create_into(chunk, self._device):
                self.drain()  # of other sizes
                torch.cuda.empty_cache()
                _create_into(chunk, self._device)
        if not chunk.handle.value:
            self._chunks.remove(chunk)
            free, total = torch.cuda.mem_get_info(self._device)
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {nbytes / 2**30:.2f} GiB for weights. {self._device} "
                f"has {total / 2**30:.2f} GiB, of which {free / 2**30:.2f} GiB is free"
            )
        return chunk

    def __del__(self) -> None:
        try:
            self.drain()
        except Exception:  # at exit the driver may be gone before we are
            return


class Range:
    """Addresses of ``nbytes``, a multiple of GRANULE, until nobody refers to them: tensors made by ``tensor``
    keep the range, and with it the memory that is under it then."""

    def __init__(self, nbytes: int, pool: Pool, device: torch.device) -> None:
        """Without memory."""
        self.nbytes = nbytes
        self.address = 0
        self._pool = pool
        self._device = device
        self._mapped = 0
        """Bytes from the start that may have memory under them: written before the driver is asked."""
        address = ctypes.c_uint64()
        with torch.cuda.device(device):
            none = ctypes.c_uint64(0)
            _call("cuMemAddressReserve", ctypes.byref(address), _size(nbytes), _size(0), none, none)
        self.address = int(address.value)

    def tensor(self, start: int, stop: int) -> torch.Tensor:
        """Flat uint8 over some of its bytes, by the interface of CUDA array libraries; a storage of its own.
        There must be memory under it: torch asks the driver whose address it is."""
        return torch.as_tensor(_Array(self, start, stop), device=self._device)

    def lay(self) -> None:
        """Memory of the pool comes under it. Raises torch's OutOfMemoryError, with none there."""
        chunks = self._pool.take(self.address, self.nbytes)
        with torch.cuda.device(self._device):
            for chunk in chunks:
                at, self._mapped = self._mapped, self._mapped + chunk.nbytes
                start, handle = ctypes.c_uint64(self.address + at), ctypes.c_uint64(chunk.handle.value)
                _call("cuMemMap", start, _size(chunk.nbytes), _size(0), handle, ctypes.c_uint64(0))
            access = _Access(_Location(_ON_DEVICE, _index(self._device)), _READ_AND_WRITE)
            start = ctypes.c_uint64(self.address)
            _call("cuMemSetAccess", start, _size(self.nbytes), ctypes.byref(access), _size(1))

    def lift(self) -> None:
        """What lay under it is spare. Nothing of the device may be using it: the driver does not wait."""
        if self._mapped:
            with torch.cuda.device(self._device):
                start = ctypes.c_uint64(self.address)
                if _driver().cuMemUnmap(start, _size(self._mapped)):
                    self._lift_pieces()  # laying or lifting was interrupted: some of it has no memory
        self._mapped = 0
        self._pool.give(self.address)

    def _lift_pieces(self) -> None:
        at = 0
        for chunk in self._pool.under(self.address):
            _driver().cuMemUnmap(ctypes.c_uint64(self.address + at), _size(chunk.nbytes))
            at += chunk.nbytes

    def __del__(self) -> None:
        try:
            if self._mapped:  # it was abandoned, and its last reader may still be queued
                torch.cuda.synchronize(self._device)
            self.lift()
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
    """Keeps the range for as long as a tensor lies over it."""

    def __init__(self, range: Range, start: int, stop: int) -> None:
        self._range = range
        self.__cuda_array_interface__ = {
            "shape": (stop - start,),
            "typestr": "|u1",
            "data": (range.address + start, False),
            "version": 3,
        }


_size = ctypes.c_size_t


def _cut(nbytes: int) -> list[int]:
    """The sizes of chunks for ``nbytes``."""
    rest = nbytes % CHUNK
    return [CHUNK] * (nbytes // CHUNK) + ([rest] if rest else [])


def _index(device: torch.device) -> int:
    return device.index or 0


def _create_into(chunk: Chunk, device: torch.device) -> bool:
    """Gives the chunk its handle; False where there is no memory left."""
    asked = _Properties(type=_ON_DEVICE, location=_Location(_ON_DEVICE, _index(device)))
    given = ctypes.byref(chunk.handle), _size(chunk.nbytes), ctypes.byref(asked), ctypes.c_uint64(0)
    result = _driver().cuMemCreate(*given)
    if result not in (0, _OUT_OF_MEMORY):
        raise RuntimeError(f"cuMemCreate failed with error {result}")
    return not result


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
