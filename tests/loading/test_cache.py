"""Folders of the cache: whole, or made again; two processes at once both get one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from planner.diagnostics.diagnostic import PlanError
from planner.loading.cache import MANIFEST, home, kept, whole


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))


def fill(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "w.bin").write_bytes(b"weights")
    (folder / "index.json").write_text("{}")


def test_a_folder_is_made_once() -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        fill(folder)

    first = kept("x/one", make)
    assert first == home() / "x" / "one"
    assert kept("x/one", make) == first
    assert len(calls) == 1
    assert [p.name for p in first.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("harm", ["no manifest", "a file cut short", "a file gone", "a file too many"])
def test_a_folder_that_is_not_whole_is_made_again(harm: str) -> None:
    folder = kept("one", fill)
    if harm == "no manifest":
        (folder / MANIFEST).unlink()
    elif harm == "a file cut short":
        (folder / "a" / "w.bin").write_bytes(b"wei")
    elif harm == "a file gone":
        (folder / "index.json").unlink()
    else:
        (folder / "a" / "w2.bin").write_bytes(b"")
    assert not whole(folder)
    assert whole(kept("one", fill))
    assert (folder / "a" / "w.bin").read_bytes() == b"weights"
    assert [p.name for p in home().iterdir()] == ["one"]


def test_what_fails_half_way_leaves_nothing() -> None:
    def fails(folder: Path) -> None:
        fill(folder)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        kept("one", fails)
    assert list(home().iterdir()) == []


def test_several_at_once_all_get_a_whole_folder() -> None:
    together = threading.Barrier(4)
    got: list[bool] = []

    def make(folder: Path) -> None:
        fill(folder)
        together.wait(timeout=10)  # all have made one before the first renames

    def work() -> None:
        got.append(whole(kept("one", make)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 4
    assert [p.name for p in home().iterdir()] == ["one"]


def test_a_cache_that_cannot_be_written_is_an_error_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "file"))
    with pytest.raises(PlanError) as caught:
        kept("one", fill)
    assert caught.value.diagnostics[0].code.id == "P921"
    assert caught.value.diagnostics[0].code.exit_code == 4
