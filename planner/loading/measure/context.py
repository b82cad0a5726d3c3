"""What a process takes of a card beside what torch's allocator says: seen from another process."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import torch

_WATCHER = """
import sys, torch
for line in sys.stdin:
    print(torch.cuda.mem_get_info(int(line))[0], flush=True)
"""


class Watcher:
    """Another process on the card, which says what is free there. To be entered before this process has a
    context; None is said where it cannot be (this process has one already, the other does not start)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process: subprocess.Popen[str] | None = None
        self._before: int | None = None

    def __enter__(self) -> Watcher:
        if self._device.type == "cuda" and not _initialized():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WATCHER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._before = self._free()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with suppress(OSError):
                self._process.communicate(timeout=30)

    def context(self) -> int | None:
        """Bytes that this process has taken since, less what torch's allocator holds."""
        now = self._free()
        if self._before is None or now is None:
            return None
        return self._before - now - int(torch.cuda.memory_reserved(self._device))

    def _free(self) -> int | None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(f"{self._device.index or 0}\n")
            process.stdin.flush()
            return int(process.stdout.readline())
        except (OSError, ValueError):
            return None


def _initialized() -> bool:
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized())
