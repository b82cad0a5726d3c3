"""Memory that processes share: whole before anybody has it, written by nobody, gone with the last of them."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from registering import Runtime

from planner.device import shared
from planner.device.pinned import Pins, check_shared, file_backed
from planner.device.shared import NotShared, Shared, made, opened, shared_at, writable

pytestmark = pytest.mark.skipif(not shared.POSSIBLE, reason="this system has no memfd")


def counted(whole: torch.Tensor) -> None:
    whole.copy_(torch.arange(len(whole)) % 251)


def child(code: str, *values: object) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-c", f"import sys, torch; from planner.device import shared; {code}"]
    return subprocess.run([*given, *map(str, values)], capture_output=True, text=True)


def test_another_process_has_the_same_bytes_and_can_write_none() -> None:
    pages = made("a", 3 * mmap.PAGESIZE + 5, counted)
    assert len(pages) == 3 * mmap.PAGESIZE + 5
    assert file_backed([pages.address]) == set()  # it is registered where it lies
    pid = os.getpid()
    opening = "p = shared.opened(int(sys.argv[1]), int(sys.argv[2]), 'a')"
    summed = child(f"{opening}; print(p.whole().sum(dtype=torch.int64).item())", pid, pages.file)
    assert summed.stdout.strip() == str(pages.whole().sum(dtype=torch.int64).item())
    assert child(f"{opening}; p.whole()[0] = 1", pid, pages.file).returncode == -signal.SIGSEGV
    written = child(
        "import os; f = os.open(sys.argv[1], 2); os.write(f, b'x')", f"/proc/{pid}/fd/{pages.file}"
    )
    assert "PermissionError" in written.stderr
    assert pages.whole()[0] == 0


def test_it_is_opened_by_its_own_name_alone() -> None:
    pages = made("a", 1, counted)
    with pytest.raises(FileNotFoundError):
        opened(os.getpid(), pages.file, "b")
    with open(os.devnull) as other, pytest.raises(FileNotFoundError):
        opened(os.getpid(), other.fileno(), "a")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(FileNotFoundError):
        opened(ended.pid, pages.file, "a")


def test_it_stays_while_a_tensor_lies_in_it_and_no_longer() -> None:
    pages = made("a", mmap.PAGESIZE, counted)
    address, file = pages.address, pages.file
    tensor = pages.part(512, 16)
    assert shared_at(address + mmap.PAGESIZE - 1) is pages
    assert shared_at(address + mmap.PAGESIZE) is None
    del pages
    gc.collect()
    assert shared_at(tensor.data_ptr()) is not None
    assert tensor[3] == (512 + 3) % 251
    writable(tensor)
    gc.collect()
    assert shared_at(address) is None
    assert not Path(f"/proc/self/fd/{file}").exists()
    assert tensor.fill_(1).sum() == 16


def test_what_fails_while_it_is_filled_leaves_nothing() -> None:
    before = {*os.listdir("/proc/self/fd")}

    def fails(whole: torch.Tensor) -> None:
        raise OSError("became shorter")

    with pytest.raises(OSError, match="became shorter"):
        made("a", 1 << 20, fails)
    gc.collect()
    assert {*os.listdir("/proc/self/fd")} == before


def test_a_system_that_has_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> int:
        raise OSError(38, "Function not implemented")

    check_shared(torch.device("cpu"))
    monkeypatch.setattr(os, "memfd_create", none)
    with pytest.raises(NotShared, match="Function not implemented"):
        check_shared(torch.device("cpu"))
    monkeypatch.setattr(shared, "POSSIBLE", False)
    with pytest.raises(NotShared, match="no memfd"):
        made("a", 1, counted)


class Registers(Runtime):
    """CUDA as it is to pages that may only be read: they are registered as such, or not at all."""

    def __init__(self, supported: bool = True) -> None:
        super().__init__()
        self.supported = supported
        self.flags: list[int] = []

    def cudaHostRegister(self, address: int, nbytes: int, flags: int) -> int:
        if isinstance(shared_at(address), Shared) and (flags != 8 or not self.supported):
            return 1
        self.flags.append(flags)
        return super().cudaHostRegister(address, nbytes, flags)


@pytest.mark.parametrize("supported", [True, False])
def test_it_is_registered_as_memory_to_read(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Registers(supported)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    if supported:
        check_shared(torch.device("cuda"))
    else:
        with pytest.raises(NotShared, match="cuda registers no memory"):
            check_shared(torch.device("cuda"))
    assert runtime.registered == {}
    pages, pins = made("a", 4 * mmap.PAGESIZE, counted), Pins(torch.device("cuda"))
    own = torch.zeros(8 * mmap.PAGESIZE, dtype=torch.uint8)
    pins.add([(pages.address, len(pages)), (own.data_ptr(), own.nbytes)])
    assert {*runtime.flags} == ({0, 8} if supported else {0})
    assert pins.refused == (0 if supported else len(pages))
