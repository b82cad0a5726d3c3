"""Files that appear whole or not at all, and never over one that is there unless that was asked for."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def written(path: Path, write: Callable[[Path], object], *, replace: bool = False) -> None:
    """``write`` is given a temporary name beside ``path``, which then gets its own name in one step, on the
    disk.

    Of two processes that write one name without ``replace``, one gets FileExistsError. With it a regular file
    is replaced, by one that the same people may read and write; a link is replaced itself, never what it
    leads to. Raises OSError; whatever is raised, an interrupt too, what was there is as it was, and nothing
    half-written stays.
    """
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        to_disk(temporary)
        temporary.chmod(_mode(path))  # mkstemp's 0600 would keep it from others
        if replace:
            temporary.replace(path)
        else:
            _exclusively(temporary, path)
        with suppress(OSError):  # not every system can do that to a folder
            to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def written_text(path: Path, text: str, *, replace: bool = False) -> None:
    """``text`` in UTF-8, to the byte on every system; as ``written``."""
    data = text.encode()
    written(path, lambda to: to.write_bytes(data), replace=replace)


def _mode(path: Path) -> int:
    """Of the regular file at ``path``; where there is none, of one that is new."""
    with suppress(OSError, ValueError):
        there = os.lstat(path).st_mode
        if stat.S_ISREG(there):
            return stat.S_IMODE(there)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def writable(folder: Path) -> None:
    """Returns when a file can be made in ``folder``: permissions, a read-only disk and quotas are all asked
    by making one. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=folder)
    os.close(handle)
    os.unlink(name)


def _exclusively(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network ones): the name is taken first.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def to_disk(path: Path) -> None:
    """Returns when a file's bytes, or a folder's names, are on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
