"""What a worker prints, as a file."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def log_to(path: Path) -> None:
    """From here on stdout and stderr of the process go to the end of a file. Raises OSError."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    sys.stdout = sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Log()), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class _Log(io.RawIOBase):
    """The process's stdout. On a disk that is full a line is lost, and no row with it."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with suppress(OSError):
            os.write(1, data)
        return len(data)
