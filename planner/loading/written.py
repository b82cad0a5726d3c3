"""Files that appear whole or not at all, and never over one that is there unless that was asked for."""

from __future__ import annotations

import os
import secrets
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
    mode = _mode(path)
    temporary = _temporary(path, private=mode is not None)
    try:
        write(temporary)
        to_disk(temporary)
        if mode is not None:
            temporary.chmod(mode)
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


def _temporary(path: Path, *, private: bool) -> Path:
    """An empty file beside ``path``: ``private`` to its user, else with the mode of any file that is new
    there, which only the system knows. Asking for the umask sets it, in all threads of the process."""
    while True:
        name = path.parent / f".writing-{secrets.token_hex(8)}{path.suffix}"
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
            return name


def _mode(path: Path) -> int | None:
    """Of the regular file at ``path``; None where there is none."""
    with suppress(OSError, ValueError):
        there = os.lstat(path).st_mode
        if stat.S_ISREG(there):
            return stat.S_IMODE(there)
    return None


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
