"""Host memory made fit for fast copies, where it lies.

``cudaHostRegister`` takes memory that exists: no second copy, and many times faster than allocating
pinned memory (measured on an H100 host: 17 GB/s against 2). Whole pages are registered, in pieces, and
none at whose edge somebody else's memory may begin: a copy that runs from registered into other memory is an
invalid argument. Our own copies are cut there; a small part takes as long as half a megabyte.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from planner.device.shared import NotShared, made, shared_at
from planner.target.extents import PIECE, merged

THREADS = 4
_DONE = 0
_ALREADY = 712  # cudaErrorHostMemoryAlreadyRegistered: somebody else pinned it, so it is pinned
_READ_ONLY = 8  # cudaHostRegisterReadOnly: for pages that this process may not write


@dataclass(frozen=True, slots=True)
class _Pin:
    """A registered piece of host memory: ``owner`` may have it unregistered, ``memory`` keeps it alive."""

    end: int
    owner: object
    memory: tuple[object, ...]


class Pins:
    """Registered host memory of one device, each piece until its owner releases it. ``limit`` is in bytes;
    None is no limit.

    Bytes: ``nbytes`` are registered, ``over`` are not because of the limit, ``refused`` by the machine.
    Invariant: what is registered is in ``_pins``, by its address; figures are sums over it.
    """

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        """Does nothing on devices other than CUDA: their copies stay pageable."""
        runtime: Any = torch.cuda.cudart
        self._runtime: Any = runtime() if device.type == "cuda" else None
        self._pins: dict[int, _Pin] = {}
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.device = device
        self.limit = limit
        self.over = 0
        self.refused = 0

    @property
    def nbytes(self) -> int:
        """Of all that is registered."""
        return sum(pin.end - start for start, pin in self._pins.items())

    def add(
        self, ranges: Iterable[tuple[int, int]], memory: Iterable[object] = (), owner: object = None
    ) -> None:
        """Register ``(address, nbytes)`` ranges, as far as the limit and the machine go.

        ``memory`` stays alive until ``owner`` is released: memory that went back while it was registered
        would leave its address registered to pages that nobody writes any more.
        """
        if self._runtime is None:
            return
        kept = tuple(memory)
        left = None if self.limit is None else self.limit - self.nbytes
        allowed = []
        for start, end in list(self._pieces(_pages(ranges))):
            if left is not None and end - start > left:
                self.over += end - start
                continue
            if left is not None:
                left -= end - start
            allowed.append((start, end, owner, kept))
        # In threads of their own also because CUDA keeps a refusal as its thread's last error, which the
        # next kernel that torch launches from that thread would raise.
        with ThreadPoolExecutor(THREADS) as pool:
            for (start, end, *_), result in zip(allowed, pool.map(self._register, allowed), strict=True):
                if result not in (_DONE, _ALREADY):
                    self.refused += end - start
        self._sort()

    def release(self, owner: object) -> None:
        """Unregister what ``owner`` has. The device must have read what it was told to read."""
        self._release(lambda pin: pin.owner is owner)

    def release_but(self, owners: Iterable[object]) -> None:
        """Unregister what belongs to nobody of ``owners``."""
        keep = {*map(id, owners)}
        self._release(lambda pin: id(pin.owner) not in keep)

    def close(self) -> None:
        """Unregister everything."""
        self._release(lambda _: True)

    def _release(self, which: Callable[[_Pin], bool]) -> None:
        for start, pin in [*self._pins.items()]:
            if which(pin):
                self._runtime.cudaHostUnregister(start)  # twice is an error that it returns and we ignore
                self._pins.pop(start, None)
        self._sort()

    def _sort(self) -> None:
        found = sorted((start, pin.end) for start, pin in self._pins.items())
        self._starts, self._ends = [start for start, _ in found], [end for _, end in found]

    def cuts(self, address: int, nbytes: int) -> Iterator[int]:
        """Lengths of the parts of a range that lie in one piece each, in order."""
        end = address + nbytes
        while address < end:
            at = bisect_right(self._starts, address) - 1
            if at >= 0 and address < self._ends[at]:
                stop = min(end, self._ends[at])
            else:
                stop = min(end, self._starts[at + 1]) if at + 1 < len(self._starts) else end
            yield stop - address
            address = stop

    def _register(self, piece: tuple[int, int, object, tuple[object, ...]]) -> int:
        start, end, owner, memory = piece
        flags = 0 if shared_at(start) is None else _READ_ONLY
        result = int(self._runtime.cudaHostRegister(start, end - start, flags))
        if result == _DONE:
            self._pins[start] = _Pin(end, owner, memory)
        return result

    def _pieces(self, intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """What is not registered yet, in pieces of whole pages."""
        for start, end in intervals:
            at = start
            while at < end:
                i = bisect_right(self._starts, at) - 1
                if i >= 0 and at < self._ends[i]:
                    at = self._ends[i]
                    continue
                stop = min(end, at + PIECE)
                if i + 1 < len(self._starts):
                    stop = min(stop, self._starts[i + 1])
                yield at, stop
                at = stop


def _pages(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The whole pages inside the ranges, and those between two where each has bytes of one of them (a tensor
    of 18 MB ends on the page before the next one's): who else lies there lies there whole. Up to a piece."""
    page = mmap.PAGESIZE
    spans: list[tuple[int, int]] = []
    last = 0
    for address, end in merged((address, address + nbytes) for address, nbytes in ranges):
        start, stop = -(-address // page) * page, end // page * page
        if start >= stop:
            continue
        if spans and address // page - (last - 1) // page <= 1 and stop - spans[-1][0] <= PIECE:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
        last = end
    yield from spans


def check_shared(device: torch.device) -> None:
    """Raises NotShared where processes cannot share memory here that is registered for ``device``."""

    def fill(whole: torch.Tensor) -> None:
        whole.fill_(1)

    try:
        pages = made("probe", mmap.PAGESIZE, fill)
    except OSError as error:
        raise NotShared(f"shared memory: {error.strerror or error}") from error
    pins = Pins(device)
    try:
        pins.add([(pages.address, len(pages))], [pages])
        if pins.refused:
            raise NotShared(f"{device} registers no memory that may only be read")
    finally:
        pins.close()


def fresh_pages(nbytes: int) -> mmap.mmap:
    """At least ``nbytes`` of host memory that nobody else lies on, in whole pages, large ones where
    the system has them: a page fault for each 4 KiB costs more than the copy into it."""
    size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    pages = mmap.mmap(-1, size, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def file_backed(addresses: Iterable[int]) -> set[int]:
    """Those of ``addresses`` that lie in a mapped file (Linux; elsewhere none is known).

    Weights read with ``from_pretrained`` are such views; registering one would copy every page.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            mapped = [_mapping(line) for line in maps]
    except OSError:
        return set()
    files = sorted(m[:2] for m in mapped if m[2])
    starts = [start for start, _ in files]
    found = set()
    for address in addresses:
        at = bisect_right(starts, address) - 1
        if at >= 0 and address < files[at][1]:
            found.add(address)
    return found


def _mapping(line: str) -> tuple[int, int, bool]:
    """Start, end, and whether a file that still has an inode lies behind it."""
    span, mode, _, _, inode, *path = line.split()
    start, _, end = span.partition("-")
    memory = bool(path) and path[0].startswith(("/dev/zero", "/dev/shm", "/memfd"))
    return int(start, 16), int(end, 16), inode != "0" and not (memory and mode.endswith("s"))
