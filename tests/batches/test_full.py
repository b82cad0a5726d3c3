"""A disk that fills while a batch runs: it stops with a finding, and goes on where there is room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import planner

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""
ROWS = 200
ENGINES = [("local", 1), ("local", 2), ("local", 4), ("ray", 2), ("ray", 4)]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 pages."""
    out = tmp_path / "out"
    out.mkdir()
    if mount("-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(out)):
        pytest.skip("a file system cannot be mounted here")
    yield out
    subprocess.run(["umount", "-l", str(out)], check=True)


def mount(*arguments: str) -> int:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode
    except FileNotFoundError:
        return 1


@pytest.mark.wide
@pytest.mark.parametrize(("engine", "workers"), ENGINES)
def test_a_disk_that_fills(
    engine: str, workers: int, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(ROWS)))
    how = {"engine": engine, "workers": workers, "simulate": True}
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", **how)  # type: ignore[arg-type]
    assert {d.code.id for d in raised.value.diagnostics} == {"P967"}
    assert "No space left" in str(raised.value)
    made = {path.name: path.read_bytes() for path in small.glob("*.png")}
    assert 0 < len(made) < ROWS
    assert mount("-o", "remount,size=32m", str(small)) == 0
    again = planner.batch("x.plan.yaml", "r.jsonl", "out", **how)  # type: ignore[arg-type]
    assert (again.failed, again.left) == (0, 0)
    planner.batch("x.plan.yaml", "r.jsonl", "one", simulate=True)
    whole = {path.name: path.read_bytes() for path in Path("one").glob("*.png")}
    assert {path.name: path.read_bytes() for path in small.glob("*.png")} == whole
    assert made.items() <= whole.items()
    assert len(whole) == ROWS
