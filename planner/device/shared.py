"""Host memory that several processes of a machine map and none may write.

A memfd: it lies in no file system (``/dev/shm`` has 64 MB in many a container), and is gone with the last
process that has it, however that ended. Another process of the same user opens it under ``/proc/PID/fd``.
Its pages can be registered by each process that maps them; those of a private mapping, which would be copied
on write, cannot: registering copies them all (Linux 6.2, ``mm/gup``: long-term pins break copy-on-write).
"""

from __future__ import annotations

import mmap
import os
import sys
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable

import torch

NAME = "offload-plan"
POSSIBLE = sys.platform == "linux" and hasattr(os, "memfd_create")


class NotShared(Exception):
    """Nothing is shared here; what it says is why."""


_mapped: weakref.WeakValueDictionary[int, Shared] = weakref.WeakValueDictionary()
"""By their addresses."""


class Shared(mmap.mmap):
    """The pages, as this process sees them. They stay as long as a tensor lies in them, and so does ``file``,
    under which another process can open them."""

    file: int
    address: int

    def whole(self) -> torch.Tensor:
        """All of it as a flat uint8 tensor. Writing to it ends the process (SIGSEGV)."""
        return self.part(0, len(self))

    def part(self, start: int, nbytes: int) -> torch.Tensor:
        """Some of its bytes, at least one, as a tensor with a storage of its own."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it may not be written: so it is meant
            return torch.frombuffer(self, dtype=torch.uint8, count=nbytes, offset=start)


def made(token: str, nbytes: int, fill: Callable[[torch.Tensor], None]) -> Shared:
    """New memory, named ``token``, that ``fill`` wrote: it is given all of it as a flat uint8 tensor, of
    which nothing may be kept. From then on nobody can write it.

    Raises NotShared where the system has none, before ``fill`` is called, and what ``fill`` raises.
    """
    if not POSSIBLE:
        raise NotShared("this system has no memfd (Linux has)")
    import fcntl

    file = -1
    try:
        file = os.memfd_create(f"{NAME}-{token}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(file, nbytes)  # pages come as they are written: what they are copied from goes meanwhile
    except OSError as error:
        if file >= 0:
            os.close(file)
        raise NotShared(f"shared memory: {error.strerror}") from error
    try:
        pages = mmap.mmap(file, nbytes)
        fill(torch.frombuffer(pages, dtype=torch.uint8))
        pages.close()  # what can still be written cannot be sealed
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        return opened(os.getpid(), file, token)
    finally:
        os.close(file)


def opened(pid: int, file: int, token: str) -> Shared:
    """The memory that a process has as its ``file``. Raises FileNotFoundError where that is gone, or is none
    that was made under ``token``, and OSError where it may not be opened."""
    path = f"/proc/{pid}/fd/{file}"
    if not os.readlink(path).startswith(f"/memfd:{NAME}-{token}"):
        raise FileNotFoundError(f"{path} is not the memory of {token}")
    own = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # for reading alone: what is sealed maps no other way
    try:
        pages = Shared(own, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    except BaseException:
        os.close(own)
        raise
    weakref.finalize(pages, os.close, own)
    pages.file, pages.address = own, pages.whole().data_ptr()
    _mapped[pages.address] = pages
    return pages


def shared_at(address: int) -> Shared | None:
    """The memory that an address lies in, where that is shared."""
    starts = sorted(_mapped.keys())
    at = bisect_right(starts, address) - 1
    found = _mapped.get(starts[at]) if at >= 0 else None
    return found if found is not None and address < found.address + len(found) else None


def writable(tensor: torch.Tensor) -> None:
    """Has a plain tensor lie in memory of its own, where it lay in memory that may not be written."""
    if shared_at(tensor.data_ptr()) is not None:
        with torch.inference_mode(False), torch.no_grad():
            tensor.data = tensor.detach().clone()
