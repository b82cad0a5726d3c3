"""What is copied out of a mapped file is what the process sees there, whoever it is read by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from planner.device import mapped
from planner.device.mapped import copy_out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two words-of weights"
    path.write_bytes(os.urandom(1 << 20))
    return path


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "PIECE", 10_000)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read of a file; one in two is cut short, as the kernel may."""
    seen: list[int] = []
    real = os.preadv

    def preadv(file: int, views: list[memoryview], at: int) -> int:
        part = views[0][: max(1, len(views[0]) // 2)] if len(seen) % 2 else views[0]
        seen.append(real(file, [part], at))
        return seen[-1]

    monkeypatch.setattr(os, "preadv", preadv)
    return seen


def view(path: Path) -> torch.Tensor:
    return torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)


def copied(source: torch.Tensor) -> torch.Tensor:
    target = torch.zeros_like(source)
    copy_out([(source[7:500_001], target[7:500_001]), (source[500_001:], target[500_001:])])
    target[:7] = source[:7]
    return target


def test_it_is_read_from_the_file(file: Path, reads: list[int]) -> None:
    source = view(file)
    assert torch.equal(copied(source), source)
    assert sum(reads) == len(source) - 7


def test_what_was_written_to_the_mapping_alone_is_not_lost(file: Path, reads: list[int]) -> None:
    source = view(file)
    source[600_000] += 1
    assert torch.equal(copied(source), source)
    assert not reads


def test_another_file_of_that_name_is_not_taken_for_it(file: Path, reads: list[int]) -> None:
    source = view(file)
    before = source.clone()
    file.with_name("new").write_bytes(bytes(1 << 20))
    file.with_name("new").replace(file)
    file.with_name(f"{file.name} (deleted)").write_bytes(bytes(1 << 20))  # as Linux names the first one now
    assert torch.equal(copied(source), before)
    assert not reads


def test_memory_is_copied_as_memory(reads: list[int]) -> None:
    source = torch.randint(256, (1 << 20,), dtype=torch.uint8)
    assert torch.equal(copied(source), source)
    assert not reads


def test_without_proc_the_mapping_is_copied(
    file: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "_unwritten", lambda: iter(()))
    source = view(file)
    assert torch.equal(copied(source), source)
    assert not reads


def test_a_file_that_became_shorter_is_an_error(file: Path) -> None:
    source = view(file)
    target = torch.zeros_like(source)
    os.truncate(file, 1 << 19)
    with pytest.raises(OSError, match='two words-of weights" became shorter while it was read'):
        copy_out([(source, target)])
