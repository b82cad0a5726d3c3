"""The ray engine on one machine: the same files as one worker's, whatever Ray does with rows and actors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from interrupting import interrupt

import planner
from planner.batches.devices import kind_for_ray

from .test_overlap import WAITS

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(5)))
    short = tempfile.mkdtemp(dir="/tmp")  # a socket's path has 107 characters
    monkeypatch.setenv("RAY_TMPDIR", short)
    yield tmp_path
    shutil.rmtree(short, ignore_errors=True)


def pictures(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(out).glob("*.png")}


def actors() -> list[psutil.Process]:
    """Of the cluster that this process started."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if "MapWorker" in " ".join(one.cmdline())]


@pytest.mark.wide
def test_an_actor_that_is_killed_and_a_row_that_always_dies(here: Path) -> None:
    pytest.importorskip("ray")
    Path("out/.batch/started").mkdir(parents=True)
    Path("out/.batch/started/r4").write_text("..")  # killed twice before; the third time is below
    killed: list[int] = []

    def tell(line: str) -> None:
        if not killed:
            victim = actors()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    made = planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", workers=2, simulate=True, tell=tell)
    assert killed
    assert (made.done, made.failed, made.left) == (5, 0, 0)
    planner.batch("x.plan.yaml", "r.jsonl", "one", simulate=True)
    assert pictures("out") == pictures("one")
    assert not actors()


@pytest.mark.wide
def test_rows_that_fail_and_are_set_aside(here: Path) -> None:
    pytest.importorskip("ray")
    Path("r.jsonl").write_text('{"id": "a", "max_sequence_length": 9999}\n{"id": "b"}\n{"id": "c"}\n')
    Path("out/.batch/started").mkdir(parents=True)
    Path("out/.batch/started/c").write_text("...")
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", simulate=True)
    assert (made.done, made.failed, made.left) == (1, 2, 0)
    said = Path("out/results.jsonl").read_text()
    assert '"P966"' in said
    assert '"P004"' in said
    Path("x.plan.yaml").write_text(PLAN.replace("builtin:tiny-flux", "none"))
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "other", engine="ray", simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P905"]


@pytest.mark.wide
def test_a_call_runs_while_the_row_before_is_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    Path("waits.py").write_text(WAITS)
    ours = 'import sys\nif any("default_worker" in part for part in sys.orig_argv):\n    import waits\n'
    Path("sitecustomize.py").write_text(ours)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), *sys.path]))
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", simulate=True)
    assert (made.done, made.failed, made.left) == (5, 0, 0)
    assert Path("overlapped").exists()


@pytest.mark.wide
def test_a_cluster_that_is_not_there(here: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", address="127.0.0.1:1", simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P981"]


def test_without_ray(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.batches.on_ray.find_spec", lambda name: None)
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P980"]


def test_which_gpu_an_actor_has_is_for_ray_to_say(here: Path) -> None:
    plan = planner.load("x.plan.yaml", overrides=("device=cuda:1",))
    assert kind_for_ray(planner.load("x.plan.yaml"), simulate=False) == "cuda"
    assert kind_for_ray(plan, simulate=True) == "sim"
    with pytest.raises(planner.PlanError) as raised:
        kind_for_ray(plan, simulate=False)
    assert [d.code.id for d in raised.value.diagnostics] == ["P968"]
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", address="a:1", simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P968"]


@pytest.mark.wide
@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_and_resumed(times: int, here: Path) -> None:
    pytest.importorskip("ray")
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(12)))
    command = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--simulate", "--out", "out"]
    command += ["--inputs", "r.jsonl", "--workers", "2", "--engine", "ray"]
    assert interrupt(command, "1/12", times, patience=300) == 130
    assert sum(path.stat().st_size for path in Path("out/.batch/started").iterdir()) == 0
    assert 1 <= len(pictures("out")) < 12
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(pictures("out")) == 12
