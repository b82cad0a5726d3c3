"""What the system and the cgroups around a process leave of host memory."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from planner.device.ram import available

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 64 * GIB

    monkeypatch.setattr(psutil, "virtual_memory", Memory)


def said(root: Path, cgroup: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)


def v2(folder: Path, limit: int | str, used: int, files: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nactive_file {files // 2}\ninactive_file {files // 2}\n")


def test_without_cgroups_the_system_decides(tmp_path: Path) -> None:
    assert available(tmp_path) == 64 * GIB


def test_the_tightest_of_the_groups_around_decides(tmp_path: Path) -> None:
    said(tmp_path, "0::/outer/inner\n")
    top = tmp_path / "sys/fs/cgroup"
    v2(top / "outer/inner", "max", 3 * GIB)
    v2(top / "outer", 16 * GIB, 6 * GIB, files=2 * GIB)
    v2(tmp_path / "sys", 1, 1)  # not above its root
    assert available(tmp_path) == 12 * GIB
    v2(top / "outer/inner", 8 * GIB, 9 * GIB)
    assert available(tmp_path) == 0
    v2(top / "outer/inner", 100 * GIB, 1 * GIB)
    v2(top / "outer", 100 * GIB, 1 * GIB)
    assert available(tmp_path) == 64 * GIB


def test_the_older_kind_in_a_container_that_sees_its_own_as_the_root(tmp_path: Path) -> None:
    said(tmp_path, "9:name=systemd:/\n4:cpu,memory:/docker/abc\n1:cpu:/\n0::/\n")
    top = tmp_path / "sys/fs/cgroup/memory"
    top.mkdir(parents=True)
    (top / "memory.limit_in_bytes").write_text(str(4 * GIB))
    (top / "memory.usage_in_bytes").write_text(str(3 * GIB))
    (top / "memory.stat").write_text(f"active_file 9\ntotal_active_file 0\ntotal_inactive_file {GIB}\n")
    assert available(tmp_path) == 2 * GIB


def test_this_machine_has_some() -> None:
    assert 0 < available() <= 64 * GIB
