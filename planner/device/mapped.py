"""Copies out of mapped files: read from the file itself, by several threads, and not through the mapping.

A mapping is read page by page, as it is touched; a read asks for all of its bytes at once, which network
mounts and disks take better (so says diffusers 0.42.1 of ``disable_mmap``; from a warm page cache, on two
cores and Linux 6.18, both copied 10 to 16 GB/s). A file that became shorter is an error, where touching its
mapping kills the process. What a process has written to its private mapping is not in the file: such a
mapping is copied as memory is. Linux tells all this under /proc; elsewhere every copy is one of memory.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch

from planner.device.pinned import file_backed

PIECE = 32 << 20
THREADS = min(16, os.cpu_count() or 1)
"""From the page cache of a large host, 1, 4 and 16 threads read 5, 20 and 44 GB/s."""

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+) +(/.*)\n")
_OWN = re.compile(r"(?:Anonymous|Swap): +([1-9]\d*) kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    """A file's bytes from ``offset`` on, at the addresses ``start`` to ``end``."""

    start: int
    end: int
    offset: int
    inode: int
    path: str


def copy_out(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], tell: Callable[[int], object] = lambda _: None
) -> None:
    """Copies the first of each pair to the second: flat uint8 tensors of one length, on the host. ``tell`` is
    called with the bytes of each part that is done.

    Raises OSError for a file that cannot be read, or that became shorter since it was mapped.
    """
    pairs = list(pairs)
    with ExitStack() as files, ThreadPoolExecutor(THREADS) as pool:
        # What the process has changed is dear to ask for: the kernel looks at every page.
        any_mapped = file_backed(source.data_ptr() for source, _ in pairs)
        sources = _Sources(_unwritten() if any_mapped else (), files)
        work = [piece for source, target in pairs for piece in _pieces(source, target, sources)]
        for nbytes, done in [(nbytes, pool.submit(piece)) for nbytes, piece in work]:
            done.result()
            tell(nbytes)


def _pieces(
    source: torch.Tensor, target: torch.Tensor, sources: _Sources
) -> Iterator[tuple[int, Callable[[], object]]]:
    """The bytes of each part, and what copies it."""
    found = sources.behind(source.data_ptr(), source.numel())
    for at in range(0, source.numel(), PIECE):
        into = target[at : at + PIECE]
        if found is None:
            yield into.numel(), partial(into.copy_, source[at : at + PIECE])
        else:
            yield into.numel(), partial(_read, found[0], found[1] + at, into)


def _read(file: int, at: int, into: torch.Tensor) -> None:
    view = into.numpy().data
    while view:
        count = os.preadv(file, [view], at)
        if not count:
            raise OSError(f'"{os.readlink(f"/proc/self/fd/{file}")}" became shorter while it was read')
        view, at = view[count:], at + count


class _Sources:
    """Which file lies behind which address, as far as the two are known to be the same."""

    def __init__(self, mappings: Iterable[_Mapping], files: ExitStack) -> None:
        """``files`` closes what is opened here."""
        self._mappings = sorted(mappings, key=lambda m: m.start)
        self._starts = [m.start for m in self._mappings]
        self._files = files
        self._opened: dict[tuple[str, int], int | None] = {}

    def behind(self, address: int, nbytes: int) -> tuple[int, int] | None:
        """A file's descriptor and where in it these bytes are."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address + nbytes > self._mappings[at].end:
            return None
        found = self._mappings[at]
        file = self._open(found.path, found.inode)
        return None if file is None else (file, found.offset + address - found.start)

    def _open(self, path: str, inode: int) -> int | None:
        if (path, inode) not in self._opened:
            self._opened[path, inode] = self._same(path, inode)
        return self._opened[path, inode]

    def _same(self, path: str, inode: int) -> int | None:
        """The file that was mapped, and not another that has its name by now."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        self._files.callback(os.close, file)
        return file if os.fstat(file).st_ino == inode else None


def _unwritten() -> Iterator[_Mapping]:
    """The mapped files of which this process has changed no page."""
    found: _Mapping | None = None
    try:
        with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                if "-" in line[:17]:
                    if found is not None:
                        yield found
                    match = _LINE.fullmatch(line)
                    found = match and _Mapping(
                        start=int(match[1], 16),
                        end=int(match[2], 16),
                        offset=int(match[3], 16),
                        inode=int(match[4]),
                        path=match[5],
                    )
                elif found is not None and _OWN.match(line):
                    found = None
    except OSError:
        return
    if found is not None:
        yield found
