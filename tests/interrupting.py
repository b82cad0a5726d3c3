"""A batch that its user interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence


def interrupt(command: Sequence[str], begins: str, times: int, patience: float) -> int:
    """Starts ``command`` and interrupts it ``times`` once a line of its stderr ``begins`` so, as a terminal
    does: it and all that it started. Its exit code, within ``patience`` seconds."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith(begins):
        assert process.poll() is None
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    process.communicate(timeout=patience)
    return process.returncode
